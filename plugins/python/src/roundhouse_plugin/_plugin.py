"""The class that plugins are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Optional, Sequence, Union

from . import _random
from ._errors import Fault
from ._handles import At
from ._steering import Ids, Steering, ids_of, to_floats
from .v1 import plugin_pb2 as pb

if TYPE_CHECKING:
    from ._sequence import Served


@dataclass(frozen=True)
class Model:
    """What is known of the model."""

    name: str
    layers: int
    experts: int  #: of a layer
    top_k: int  #: experts that a token chooses
    hidden: int
    tokens: int  #: ids that can be drawn: 0 to tokens - 1
    eos: List[int]
    tokenizer: bool


@dataclass(frozen=True)
class Request:
    """What is known of the request."""

    id: str
    max_tokens: int
    choice: int
    choices: int
    body: Any = None  #: as the client sent it


@dataclass(frozen=True)
class Finish:
    """How the choice ended."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass
class Wishes:
    """What a call wants beside its answer."""

    notices: List[pb.Notice] = field(default_factory=list)
    stop: str = ""
    inject: List[int] = field(default_factory=list)
    rewind: Optional[pb.Rewind] = None
    sequences: List[List[int]] = field(default_factory=list)


#: The events, with the method that each calls and its bit in the key of random numbers.
EVENTS = {
    "request": (pb.EVENT_REQUEST, 0), "prompt": (pb.EVENT_PROMPT, 1), "logits": (pb.EVENT_LOGITS, 2),
    "sample": (pb.EVENT_SAMPLE, 4), "token": (pb.EVENT_TOKEN, 8), "routing": (pb.EVENT_ROUTING, 16),
    "finish": (pb.EVENT_FINISH, 32), "hidden": (pb.EVENT_HIDDEN, 64), "route": (pb.EVENT_ROUTE, 128),
}
METHODS = {event: (name, bit) for name, (event, bit) in EVENTS.items()}


class Plugin:
    """A plugin. Subclasses have those of these methods that they want, plain or async:

    ``begin()``, when the choice begins: what it steers is in force from the first row on.
    ``prompt(ids)`` may return others. ``logits(l, at)`` may edit. ``sample(c, at)`` may return
    the id to choose. ``token(t)`` and ``routing(r)`` are told lag positions behind.
    ``hidden(h)`` is told the residual behind the layers hidden_layers, and may write it with
    hidden_write. ``route(r)`` may write the router logits of route_layers. ``finish(f)`` is
    told the end, ``rewound(position)`` that tokens were taken back from there on. The class
    method ``request(cls, body, params)`` may return another body before the request is read.
    """

    name: ClassVar[str] = ""  #: of a-z, 0-9, _ and -
    version: ClassVar[str] = ""
    description: ClassVar[str] = ""
    parameters: ClassVar[Dict[str, Dict[str, Any]]] = {}  #: a subset of JSON Schema, by name
    # Each of these may be set anew in begin().
    priority: int = 0
    lag: int = 2
    budget_ms: float = 0  #: of one call; 0 for the host's
    capture_all: bool = False  #: routing, hidden and route of the prompt's rows too
    hidden_layers: Sequence[int] = ()
    hidden_write: bool = False
    route_layers: Sequence[int] = ()
    hold: int = 0  #: tokens held back, so that they can be taken back
    observer: bool = False  #: it changes nothing, and may lose events
    top: int = 0  #: most likely tokens that come along with every logits event
    entropy: bool = False  #: likewise, as those below
    full: bool = False
    model_top: int = 0
    model_full: bool = False
    blocking: bool = False  #: plain methods run on threads: they take long, or wait

    # What a choice has; set before begin().
    params: Dict[str, Any]
    model: Model
    request_info: Request
    steer: Steering
    at: At

    _served: "Served"
    _seed: int = 0
    _draws: int = 0
    _bit: int = 0
    _wishes: Wishes

    def random(self) -> float:
        """The next random number of this call in [0, 1): the same wherever and beside whatever
        the request runs."""
        draw = self._bit << 24 | self._draws
        self._draws = (self._draws + 1) & 0xFFFFFF
        return _random.random(self._seed, self.at.choice, self.at.position, self.at.attempt, draw)

    def emit(self, name: str, value: Union[float, str, Any]) -> None:
        """Tells whoever watches the request a named number, text or plain data."""
        import json

        notice = pb.Notice(name=name)
        if isinstance(value, str):
            notice.text = value
        elif isinstance(value, (int, float)):
            notice.number = float(value)
        else:
            notice.json = json.dumps(value)
        self._wishes.notices.append(notice)

    def log(self, text: Any) -> None:
        """A line for the request's log."""
        self._wishes.notices.append(pb.Notice(name="log", log=str(text)))

    def stop(self, reason: str) -> None:
        """Ends the choice; in sample, or in token with lag 1, as the next two."""
        self._wishes.stop = reason

    def inject(self, ids: Ids) -> None:
        """Makes these the next tokens."""
        self._wishes.inject += ids_of(ids)

    def rewind(self, position: int, same_attempt: bool = False) -> None:
        """Draws again from a position on: hold says how many tokens can be taken back."""
        self._wishes.rewind = pb.Rewind(position=position, same_attempt=same_attempt)

    def sequence(self, ids: Ids) -> int:
        """Begins a second prompt, in begin or prompt: its logits are l.beside[n], of the n that
        this returns."""
        self._wishes.sequences.append(ids_of(ids))
        return self._served.sequences + len(self._wishes.sequences) - 1

    async def encode(self, text: str) -> List[int]:
        """The ids of a text."""
        return list((await self._served.ask(pb.Read(encode=pb.Encode(text=text)))).ids)

    async def decode(self, ids: Ids) -> str:
        """The text of ids."""
        return (await self._served.ask(pb.Read(decode=pb.Decode(ids=ids_of(ids))))).text

    async def vocabulary(self) -> List[bytes]:
        """The texts of all tokens, by id, as bytes: a token may be part of a character. They
        are fetched once for each model."""
        held = self._served.shared.vocabularies
        if self.model.name not in held:
            texts: List[bytes] = []
            while len(texts) < self.model.tokens:
                count = min(32768, self.model.tokens - len(texts))
                part = (await self._served.ask(pb.Read(vocabulary=pb.Vocabulary(first=len(texts), count=count)))).texts
                if len(part) != count:
                    raise Fault("exception", f"the host sent {len(part)} texts of {count} tokens")
                texts += part
            held[self.model.name] = texts
        return held[self.model.name]

    async def vector(self, name: str) -> Any:
        """The values of a steering vector of the host's folder."""
        return to_floats((await self._served.ask(pb.Read(vector=pb.SteeringVector(name=name)))).floats)


def spec_of(of: Any) -> pb.Spec:
    """What a class, or an object of it, wants."""
    cls = of if isinstance(of, type) else type(of)
    events = [event for name, (event, _) in EVENTS.items() if callable(getattr(cls, name, None))]
    return pb.Spec(
        events=events, priority=of.priority, lag=of.lag, budget_ms=of.budget_ms, capture_all=of.capture_all, hidden_layers=of.hidden_layers,
        hidden_write=of.hidden_write, route_layers=of.route_layers, hold=of.hold, observer=of.observer,
        riding=pb.Riding(top=of.top, entropy=of.entropy, full=of.full, model_top=of.model_top, model_full=of.model_full),
    )
