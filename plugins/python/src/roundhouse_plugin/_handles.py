"""What handlers are given. Handles are good until the handler returns."""

from __future__ import annotations

import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, TypeVar

from ._errors import Fault
from ._steering import Ids, floats, ids_of, to_floats
from .v1 import plugin_pb2 as pb

if TYPE_CHECKING:
    from ._sequence import Served


T = TypeVar("T")


@dataclass(frozen=True)
class At:
    """Where a handler is called."""

    position: int  #: of the token to be drawn, or of what is told
    attempt: int  #: counts what was taken back
    phase: str  #: "prompt" or "decode"
    choice: int
    next: int  #: position of the token to come


@dataclass(frozen=True)
class Candidates:
    """Tokens, most likely first."""

    ids: List[int]
    logits: "array.array[float]"
    logprobs: "array.array[float]"  #: natural logarithms

    def __len__(self) -> int:
        return len(self.ids)


def to_candidates(m: pb.Candidates) -> Candidates:
    """Candidates of their message."""
    return Candidates(list(m.ids), to_floats(m.logits), to_floats(m.logprobs))


@dataclass(frozen=True)
class Token:
    """A token that was chosen."""

    position: int
    id: int
    text: str
    logprob: float  #: of the model's distribution
    forced: bool  #: injected, not drawn


class Handle:
    """Something that is good within one call."""

    def __init__(self, served: "Served", at: At) -> None:
        self.at = at
        self._served = served
        self._over = False

    def _use(self) -> "Served":
        if self._over:
            raise Fault("misuse", f"a handle of position {self.at.position} was used after its handler returned")
        return self._served

    async def _ask(self, **what: Any) -> pb.ReadResult:
        return await self._use().ask(pb.Read(**what))


class Reads(Handle):
    """Reads of one row of logits. What comes along (see Plugin) is there at once: top, entropy,
    full. The rest is asked for."""

    def __init__(self, served: "Served", at: At, source: int, sequence: int = 0) -> None:
        super().__init__(served, at)
        self._where: Dict[str, Any] = {"source": source, "sequence": sequence}
        self._top: Optional[Candidates] = None
        self._entropy: Optional[float] = None
        self._full: "Optional[array.array[float]]" = None

    def _along(self, what: Optional[T], name: str) -> T:
        self._use()
        if what is None:
            raise Fault("misuse", f"{name} did not come along: say so in the class ({name} = ...), or await read_{name}()")
        return what

    @property
    def top(self) -> Candidates:
        """The most likely tokens, as many as the class says."""
        return self._along(self._top, "top")

    @property
    def entropy(self) -> float:
        """In nats."""
        return self._along(self._entropy, "entropy")

    @property
    def full(self) -> "array.array[float]":
        """All logits."""
        return self._along(self._full, "full")

    async def read_top(self, k: int) -> Candidates:
        """The k most likely tokens."""
        self._use()
        if self._top is not None and k <= len(self._top):
            t = self._top
            return Candidates(t.ids[:k], t.logits[:k], t.logprobs[:k])
        return to_candidates((await self._ask(top=pb.Top(k=k, **self._where))).candidates)

    async def read_logprobs(self, ids: Ids) -> "array.array[float]":
        """The natural logarithms of tokens' probabilities."""
        return to_floats((await self._ask(logprobs=pb.Logprobs(ids=ids_of(ids), **self._where))).floats)

    async def read_entropy(self) -> float:
        """The entropy in nats."""
        if self._entropy is None:
            self._entropy = to_floats((await self._ask(entropy=pb.Entropy(**self._where))).floats)[0]
        return self._entropy

    async def read_full(self) -> "array.array[float]":
        """All logits: 608 KB at the real shape."""
        if self._full is None:
            self._full = to_floats((await self._ask(full=pb.Full(**self._where))).floats)
        return self._full


class Logits(Reads):
    """A row of logits on its way to a draw: what it is, and what to change. Changes return it,
    and are carried out in their order."""

    def __init__(self, served: "Served", at: At, m: pb.Logits, sequences: int) -> None:
        super().__init__(served, at, pb.SOURCE_UNSPECIFIED)
        self._edits: List[pb.Edit] = []
        self._settings: Optional[pb.Settings] = None
        #: The same reads of the model's own distribution, before penalties and a grammar.
        self.model = Reads(served, at, pb.SOURCE_MODEL)
        #: The same reads of sequences beside the choice.
        self.beside = [Reads(served, at, pb.SOURCE_SEQUENCE, n) for n in range(sequences)]
        if m.HasField("top"):
            self._top = to_candidates(m.top)
        if m.HasField("model_top"):
            self.model._top = to_candidates(m.model_top)
        if m.HasField("entropy"):
            self._entropy = m.entropy
        if m.full:
            self._full = to_floats(m.full)
        if m.model_full:
            self.model._full = to_floats(m.model_full)

    def _end(self) -> None:
        for reads in [self, self.model, *self.beside]:
            reads._over = True

    def _edit(self, kind: int, ids: Ids = (), value: float = 0.0, sequence: int = 0) -> "Logits":
        self._use()
        self._edits.append(pb.Edit(kind=kind, ids=ids_of(ids), value=value, sequence=sequence))  # type: ignore[arg-type]
        return self

    def bias(self, ids: Ids, value: float) -> "Logits":
        """Adds to logits; minus infinity bans."""
        return self._edit(pb.EDIT_KIND_BIAS, ids, value)

    def ban(self, ids: Ids) -> "Logits":
        """These cannot be drawn."""
        return self._edit(pb.EDIT_KIND_BAN, ids)

    def only(self, ids: Ids) -> "Logits":
        """Nothing else can be."""
        return self._edit(pb.EDIT_KIND_ONLY, ids)

    def scale(self, factor: float) -> "Logits":
        """Multiplies all logits."""
        return self._edit(pb.EDIT_KIND_SCALE, (), factor)

    def add(self, sequence: int, weight: float) -> "Logits":
        """Adds the logits of a sequence beside, times a weight."""
        return self._edit(pb.EDIT_KIND_ADD, (), weight, sequence)

    def _set(self, name: str, value: float) -> "Logits":
        self._use()
        if self._settings is None:
            self._settings = pb.Settings()
        setattr(self._settings, name, value)
        return self

    def temperature(self, t: float) -> "Logits":
        """Of this draw."""
        return self._set("temperature", t)

    def top_k(self, k: float) -> "Logits":
        """Of this draw; 0 for all tokens."""
        return self._set("top_k", k)

    def top_p(self, p: float) -> "Logits":
        """Of this draw."""
        return self._set("top_p", p)

    def min_p(self, p: float) -> "Logits":
        """Of this draw."""
        return self._set("min_p", p)

    def typical(self, p: float) -> "Logits":
        """Of this draw."""
        return self._set("typical", p)


class Choices(Handle):
    """What the sampler left to choose from."""

    def __init__(self, served: "Served", at: At, candidates: Candidates) -> None:
        super().__init__(served, at)
        self.candidates = candidates
        self.ids, self.logits, self.logprobs = candidates.ids, candidates.logits, candidates.logprobs

    def __len__(self) -> int:
        return len(self.ids)

    async def draw(self) -> int:
        """The token that the sampler would choose."""
        return (await self._ask(draw=pb.Draw())).ids[0]


@dataclass
class Routing:
    """What a row was routed to."""

    position: int
    prompt: bool  #: a row of the prompt
    layers: int
    k: int
    _ids: "array.array[int]" = field(repr=False)
    _weights: "array.array[float]" = field(repr=False)

    def ids(self, layer: int) -> List[int]:
        """The experts of a layer, best first."""
        return [e for e in self._ids[layer * self.k : (layer + 1) * self.k] if e != 65535]

    def weights(self, layer: int) -> List[float]:
        """Their weights, as applied."""
        return list(self._weights[layer * self.k : layer * self.k + len(self.ids(layer))])


def to_routing(m: pb.Routing, position: int, prompt: bool) -> Routing:
    """A record of its message."""
    ids = array.array("H")
    ids.frombytes(m.ids)
    return Routing(position, prompt, m.layers, m.top_k, ids, to_floats(m.weights))


class Hidden(Handle):
    """The residual behind a layer."""

    def __init__(self, served: "Served", at: At, m: pb.Hidden) -> None:
        super().__init__(served, at)
        self.layer: int = m.layer
        self.values = to_floats(m.values)
        self._within, self._written = m.within, b""

    def write(self, values: Iterable[float]) -> None:
        """Puts others in their place; with hidden_write of the class."""
        self._use()
        if not self._within:
            raise Fault("misuse", "write in a hidden handler that did not say so: hidden_write = True in the class")
        self._written = floats(values)

    async def lens(self, k: int) -> Candidates:
        """The most likely tokens if this were the last layer."""
        return to_candidates((await self._ask(lens=pb.Lens(k=k))).candidates)


class Router(Handle):
    """The logits of a layer's router, before experts are chosen."""

    def __init__(self, served: "Served", at: At, m: pb.Router) -> None:
        super().__init__(served, at)
        self.layer: int = m.layer
        self.logits = to_floats(m.logits)
        self._written = b""

    def write(self, logits: Iterable[float]) -> None:
        """Puts others in their place; minus infinity bans."""
        self._use()
        self._written = floats(logits)
