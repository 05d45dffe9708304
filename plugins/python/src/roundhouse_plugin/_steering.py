"""Steering of experts, as scripts have it."""

from __future__ import annotations

import array
from typing import Any, Dict, Iterable, List, Optional, Sequence, Union

from .v1 import plugin_pb2 as pb

Ids = Union[int, Iterable[int]]


def ids_of(what: Ids) -> List[int]:
    """A list of one id, or several."""
    if isinstance(what, int):
        return [what]
    return [int(i) for i in what]


def floats(values: Iterable[float]) -> bytes:
    """Numbers as they travel: float32, little end first."""
    astype = getattr(values, "astype", None)  # of numpy
    if astype is not None:
        return bytes(astype("<f4").tobytes())
    return array.array("f", values).tobytes()


def to_floats(data: bytes) -> "array.array[float]":
    """Numbers of their bytes."""
    out = array.array("f")
    out.frombytes(data)
    return out


class Steering:
    """What the plugin sets of the experts. It stays as it is set, from call to call; what a
    call changes comes into force lag positions behind its event."""

    def __init__(self, layers: int) -> None:
        self._count = layers
        self._message = pb.Steering()
        self._sent = b""

    def layer(self, n: int) -> "LayerSteering":
        """One layer."""
        return LayerSteering(self, [n])

    def layers(self, list_: Sequence[int]) -> "LayerSteering":
        """Several."""
        return LayerSteering(self, list(list_))

    @property
    def all(self) -> "LayerSteering":
        """Every layer."""
        return LayerSteering(self, list(range(self._count)))

    def vector(self, what: Union[str, Iterable[float]], layer: int, scale: float = 1.0, name: str = "") -> None:
        """Adds a vector to the residual behind a layer: one of the host's folder by its name, or
        values. One of the same name at the same layer is replaced; a scale of 0 takes it away."""
        named, values = (what, b"") if isinstance(what, str) else (name, floats(what))
        kept = [v for v in self._message.vectors if not (named and v.name == named and v.layer == layer)]
        del self._message.vectors[:]
        self._message.vectors.extend(kept)
        if scale:
            self._message.vectors.append(pb.Vector(name=named, values=values, layer=layer, scale=scale))

    def decode_only(self) -> None:
        """Leaves rows of the prompt alone."""
        self._message.decode_only = True

    def clear(self) -> None:
        """Takes everything back."""
        self._message.Clear()

    # The rest is the SDK's.

    def _replace(self, message: pb.Steering) -> None:
        self._message.CopyFrom(message)
        self._sent = self._message.SerializeToString(deterministic=True)

    def _changed(self) -> Optional[pb.Steering]:
        now = self._message.SerializeToString(deterministic=True)
        if now == self._sent:
            return None
        self._sent = now
        out = pb.Steering()
        out.CopyFrom(self._message)
        return out

    def _mark(self) -> Any:
        message = pb.Steering()
        message.CopyFrom(self._message)
        return message, self._sent

    def _back(self, mark: Any) -> None:
        self._message.CopyFrom(mark[0])
        self._sent = mark[1]


class LayerSteering:
    """Some layers of a Steering. Each method returns it."""

    def __init__(self, owner: Steering, layers: List[int]) -> None:
        self._owner, self._layers = owner, layers

    def _each(self) -> Iterable[pb.LayerSteering]:
        return [self._owner._message.layers[n] for n in self._layers]

    def _set(self, field: str, experts: Ids, value: float, off: float) -> "LayerSteering":
        for layer in self._each():
            values: Dict[int, float] = getattr(layer, field)
            for e in ids_of(experts):
                if value == off:
                    values.pop(e, None)
                else:
                    values[e] = value
        return self

    def bias(self, experts: Ids, value: float) -> "LayerSteering":
        """Added to router logits before experts are chosen; 0 takes it back."""
        return self._set("bias", experts, value, 0.0)

    def scale(self, experts: Ids, factor: float) -> "LayerSteering":
        """Times the weights where they are chosen; 1 takes it back."""
        return self._set("scale", experts, factor, 1.0)

    def _union(self, field: str, experts: Ids) -> "LayerSteering":
        for layer in self._each():
            held = getattr(layer, field)
            both = sorted(set(held) | set(ids_of(experts)))
            del held[:]
            held.extend(both)
        return self

    def ban(self, experts: Ids) -> "LayerSteering":
        """Never chosen."""
        return self._union("ban", experts)

    def force(self, experts: Ids) -> "LayerSteering":
        """Always chosen, in the place of the weakest."""
        return self._union("force", experts)

    def gate(self, factor: float) -> "LayerSteering":
        """Times the gate of the shared expert; 1 takes it back."""
        for layer in self._each():
            layer.gate = factor
        return self

    def top_k(self, k: int) -> "LayerSteering":
        """How many experts a token chooses; 0 for the model's number."""
        for layer in self._each():
            layer.top_k = k
        return self

    def clear(self) -> "LayerSteering":
        """Takes back what was set of these layers."""
        for n in self._layers:
            self._owner._message.layers.pop(n, None)
        return self
