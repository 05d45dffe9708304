"""Plays a plugin within a test: no host, no model, no sockets.

    from roundhouse_plugin.testing import Choice

    choice = Choice(Calm, params={"limit": 1.0}, tokens=["a", "b", "c"])
    reply = choice.logits([0.0, 0.0, 0.0])
    assert reply.settings.temperature == 0.6

What the plugin asks for is answered from what the test gives. A fault of the plugin is
raised. Messages go through their bytes, as between processes.
"""

from __future__ import annotations

import asyncio
import json
import math
import weakref
from typing import Any, Dict, List, Optional, Sequence, Type

from ._errors import Fault
from ._plugin import Plugin
from ._sequence import Served, Shared
from ._steering import floats
from .v1 import plugin_pb2 as pb


def _top(row: Sequence[float], k: int) -> pb.Candidates:
    """The k most likely tokens of a row."""
    best = max(row)
    norm = best + math.log(sum(math.exp(v - best) for v in row))
    ids = [i for i in sorted(range(len(row)), key=lambda i: (-row[i], i))[:k] if row[i] > -math.inf]
    return pb.Candidates(ids=ids, logits=floats([row[i] for i in ids]), logprobs=floats([row[i] - norm for i in ids]))


def _entropy(row: Sequence[float]) -> float:
    best = max(row)
    norm = best + math.log(sum(math.exp(v - best) for v in row))
    return -sum(math.exp(v - norm) * (v - norm) for v in row if v > -math.inf)


class Choice:
    """One choice of a plugin. Methods play its events, and return the plugin's reply."""

    def __init__(self, cls: Type[Plugin], params: Optional[Dict[str, Any]] = None, tokens: Sequence[str] = (), layers: int = 4, experts: int = 8,
                 top_k: int = 2, hidden: int = 4, count: int = 0, eos: Sequence[int] = (), seed: int = 0, prompt: int = 1, request_id: str = "test", body: Any = None) -> None:
        filled = {name: p["default"] for name, p in cls.parameters.items() if "default" in p}
        filled.update(params or {})
        missing = [name for name in cls.parameters if name not in filled]
        unknown = [name for name in filled if name not in cls.parameters]
        if missing or unknown:
            raise ValueError(f"parameters that must be given: {missing}; that there are not: {unknown}")
        self.tokens, self.hidden_size, self.position, self.step = list(tokens), hidden, prompt, 0
        self.row: Sequence[float] = ()
        self.model_row: Sequence[float] = ()
        self.beside: Sequence[Sequence[float]] = ()
        self.drawn, self.lens_top = 0, pb.Candidates()
        self.sequences: List[List[int]] = []
        self._rewound: Optional[int] = None
        self._loop = asyncio.new_event_loop()
        weakref.finalize(self, self._loop.close)
        self._written: "List[pb.SequenceResponse]" = []
        self.served = Served(cls, Shared(), self._never, self._take)
        model = pb.Model(name="test", layers=layers, experts=experts, top_k=top_k, max_k=top_k, hidden=hidden, tokens=count or len(self.tokens) or 16,
                         eos=eos, tokenizer=bool(self.tokens))
        begin = pb.Begin(model=model, params_json=json.dumps(filled), seed=seed,
                         request=pb.Request(id=request_id, max_tokens=16, choices=1, body_json="" if body is None else json.dumps(body)))
        self.model = model
        self.begun = self._send(pb.SequenceRequest(begin=begin))

    @property
    def plugin(self) -> Plugin:
        """The object that serves."""
        assert self.served.plugin is not None
        return self.served.plugin

    async def _never(self) -> None:
        return None

    async def _take(self, m: pb.SequenceResponse) -> None:
        self.served._result = self._answer(pb.SequenceResponse.FromString(m.SerializeToString()).read)

    def _send(self, m: pb.SequenceRequest) -> pb.Reply:
        m = pb.SequenceRequest.FromString(m.SerializeToString())
        reply = self._loop.run_until_complete(self.served.serve(m))
        if reply is None:
            return pb.Reply()
        reply = pb.Reply.FromString(reply.SerializeToString())
        if reply.HasField("fault"):
            raise Fault(reply.fault.kind, reply.fault.message)
        self.sequences += [list(s.ids) for s in reply.sequences]
        return reply

    def _answer(self, r: pb.Read) -> pb.ReadResult:
        what = r.WhichOneof("what")
        rows = {pb.SOURCE_UNSPECIFIED: self.row, pb.SOURCE_MODEL: self.model_row or self.row}
        if what in ("top", "logprobs", "entropy", "full"):
            m = getattr(r, what)
            row = self.beside[m.sequence] if m.source == pb.SOURCE_SEQUENCE else rows[m.source]
            if what == "top":
                return pb.ReadResult(candidates=_top(row, m.k))
            if what == "logprobs":
                whole = _top(row, len(row))
                at = {i: n for n, i in enumerate(whole.ids)}
                return pb.ReadResult(floats=b"".join(whole.logprobs[4 * at[i]:4 * at[i] + 4] for i in m.ids))
            return pb.ReadResult(floats=floats([_entropy(row)] if what == "entropy" else row))
        if what == "draw":
            return pb.ReadResult(ids=[self.drawn])
        if what == "lens":
            return pb.ReadResult(candidates=self.lens_top)
        if what == "encode":
            if r.encode.text not in self.tokens:
                return pb.ReadResult(fault=pb.Fault(kind="bad_value", message=f"this test knows whole tokens only, and not {r.encode.text!r}"))
            return pb.ReadResult(ids=[self.tokens.index(r.encode.text)])
        if what == "decode":
            return pb.ReadResult(text="".join(self.tokens[i] for i in r.decode.ids))
        if what == "vocabulary":
            some = self.tokens[r.vocabulary.first:r.vocabulary.first + r.vocabulary.count]
            return pb.ReadResult(texts=[t.encode() for t in some])
        return pb.ReadResult(fault=pb.Fault(kind="unsupported", message=f"{what} cannot be read in this test"))

    def _step(self, event: int, position: Optional[int] = None, **payload: Any) -> pb.Reply:
        if event not in self.begun.spec.events:
            return pb.Reply()  # a host would not ask
        self.step += 1
        where = self.position if position is None else position
        fields = {"attempt": 0, "phase": pb.PHASE_DECODE, **payload}
        if self._rewound is not None:
            fields["rewound_to"], self._rewound = self._rewound, None
        step = pb.Step(id=self.step, event=event, position=where, next_position=self.position, sequences=len(self.sequences), **fields)  # type: ignore[arg-type]
        return self._send(pb.SequenceRequest(step=step))

    def prompt(self, ids: Sequence[int]) -> List[int]:
        """The prompt, as the plugin leaves it."""
        reply = self._step(pb.EVENT_PROMPT, prompt=pb.Prompt(ids=ids))
        out = list(reply.prompt.ids) if reply.HasField("prompt") else list(ids)
        self.position = len(out)
        return out

    def logits(self, row: Sequence[float], model: Sequence[float] = (), beside: Sequence[Sequence[float]] = ()) -> pb.Reply:
        """The row of the next token."""
        self.row, self.model_row, self.beside = row, model or row, beside
        spec = self.begun.spec.riding
        m = pb.Logits()
        if spec.top:
            m.top.CopyFrom(_top(row, spec.top))
        if spec.model_top:
            m.model_top.CopyFrom(_top(self.model_row, spec.model_top))
        if spec.entropy:
            m.entropy = _entropy(row)
        if spec.full:
            m.full = floats(row)
        if spec.model_full:
            m.model_full = floats(self.model_row)
        return self._step(pb.EVENT_LOGITS, logits=m)

    def sample(self, row: Sequence[float], drawn: int = 0) -> Optional[int]:
        """What the sampler left of the next token; returns what the plugin chooses."""
        self.drawn = drawn
        reply = self._step(pb.EVENT_SAMPLE, candidates=_top(row, 256))
        return reply.chosen if reply.HasField("chosen") else None

    def token(self, id: int, logprob: float = -1.0, forced: bool = False) -> pb.Reply:
        """The token that was chosen: the next position comes."""
        text = self.tokens[id] if id < len(self.tokens) else ""
        self.position += 1
        return self._step(pb.EVENT_TOKEN, self.position - 1, token=pb.Token(id=id, text=text, logprob=logprob, forced=forced))

    def routing(self, experts: Sequence[Sequence[int]], weights: Optional[Sequence[Sequence[float]]] = None) -> pb.Reply:
        """What the last row was routed to, [layers][top_k]."""
        import array

        k = len(experts[0])
        even = weights or [[1 / k] * k for _ in experts]
        m = pb.Routing(layers=len(experts), top_k=k, ids=array.array("H", [e for l in experts for e in l]).tobytes(), weights=floats([w for l in even for w in l]))
        return self._step(pb.EVENT_ROUTING, self.position - 1, routing=m)

    def hidden(self, layer: int, values: Sequence[float], within: bool = False) -> pb.Reply:
        """The residual behind a layer."""
        return self._step(pb.EVENT_HIDDEN, self.position - 1, hidden=pb.Hidden(layer=layer, values=floats(values), within=within))

    def route(self, layer: int, logits: Sequence[float]) -> pb.Reply:
        """The router logits of a layer."""
        return self._step(pb.EVENT_ROUTE, self.position - 1, router=pb.Router(layer=layer, logits=floats(logits)))

    def rewind(self, position: int) -> None:
        """Takes tokens back: the plugin is told with its next event."""
        self.position = self._rewound = position

    def finish(self, reason: str = "length") -> pb.Reply:
        """The end."""
        return self._step(pb.EVENT_FINISH, finish=pb.Finish(reason=reason, prompt_tokens=1, completion_tokens=self.position - 1))
