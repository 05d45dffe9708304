import unittest

from main import RegexGuard
from roundhouse_plugin import Fault
from roundhouse_plugin.testing import Choice

TOKENS = ["", "a", "b", "ab", "1", "22", "3 ", "x", "é", "."]
EOS = 0


def allowed(reply):
    return [TOKENS[i] for i in reply.edits[0].ids]


class Test(unittest.TestCase):
    def begin(self, pattern):
        return Choice(RegexGuard, {"pattern": pattern}, tokens=TOKENS, eos=[EOS])

    def test_only_what_can_go_on(self):
        c = self.begin(r"ab?\d+\.")
        row = [0.0] * len(TOKENS)
        self.assertEqual(allowed(c.logits(row)), ["a", "ab"])
        c.token(3)
        self.assertEqual(allowed(c.logits(row)), ["1", "22"])
        c.token(4)
        self.assertEqual(allowed(c.logits(row)), ["1", "22", "."])
        c.token(9)
        self.assertEqual(allowed(c.logits(row)), [""])  # matched, and nothing may follow: the end

    def test_tokens_that_are_taken_back(self):
        c = self.begin(r"a\d")
        row = [0.0] * len(TOKENS)
        c.logits(row)
        c.token(1)
        c.logits(row)
        c.token(4)
        c.rewind(2)
        self.assertEqual(allowed(c.logits(row)), ["1"])

    def test_refusals(self):
        with self.assertRaisesRegex(Fault, "the pattern"):
            self.begin("(")
        with self.assertRaisesRegex(Fault, "no token goes on"):
            self.begin("Q").logits([0.0] * len(TOKENS))


if __name__ == "__main__":
    unittest.main()
