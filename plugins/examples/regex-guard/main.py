"""Keeps the answer to a regular expression. The package ``regex`` knows of a text whether
some longer text could match (partial matching): of the candidates, only those stay with
which that is so. Where none of the likeliest 256 fits, all tokens are tried; once the
pattern is matched and nothing may follow, the answer ends."""

import regex

from roundhouse_plugin import Fault, Plugin, serve


class RegexGuard(Plugin):
    name, version = "regex-guard", "1.0"
    description = "keeps the answer to a regular expression"
    parameters = {"pattern": {"type": "string", "maxLength": 1000}}
    lag = 1  # the text so far has to be known before the next token
    top = 256
    budget_ms = 200  # all tokens are tried where none of the likeliest fits

    async def begin(self):
        try:
            self.pattern = regex.compile(self.params["pattern"])
        except regex.error as error:
            raise Fault("bad_value", f"the pattern {self.params['pattern']!r}: {error}") from error
        self.words = await self.vocabulary()
        self.text = b""
        self.known = {}  # length of the text at each position, for tokens that are taken back

    def fits(self, id):
        """Whether the text could match with a token: True, or None where it cannot. Bytes that
        end within a character are left to the next token."""
        data = self.text + self.words[id]
        text = data.decode("utf-8", errors="ignore")
        if len(text.encode()) < len(data) - 3:  # no character is that long
            return None
        return self.pattern.fullmatch(text, partial=True) is not None if self.words[id] else None

    def logits(self, l, at):
        self.known[at.position] = len(self.text)
        ends = self.model.eos if self.pattern.fullmatch(self.text.decode("utf-8", errors="ignore")) else []
        allowed = [id for id in l.top.ids if id not in self.model.eos and self.fits(id)]
        if not allowed:
            allowed = [id for id in range(self.model.tokens) if id not in self.model.eos and self.fits(id)]
        if not allowed and not ends:
            raise Fault("nothing_left", f"no token goes on from {self.text[-40:]!r}")
        l.only(allowed + list(ends))

    def token(self, t):
        if t.id not in self.model.eos:
            self.text += self.words[t.id]

    def rewound(self, position):
        self.text = self.text[: self.known.get(position, 0)]


if __name__ == "__main__":
    serve(RegexGuard)
