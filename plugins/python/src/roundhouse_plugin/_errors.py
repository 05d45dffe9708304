"""What goes wrong, in the form that the host knows."""

from __future__ import annotations

import traceback
from typing import Optional

from .v1 import plugin_pb2 as pb


class Fault(Exception):
    """A failure of a kind: exception, bad_id, bad_value, not_a_number, nothing_left, misuse
    or unsupported. The token takes the default, and who watches the request is told."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def to_fault(error: BaseException) -> pb.Fault:
    """The message of an error, with the line of the plugin that it came from."""
    kind = error.kind if isinstance(error, Fault) else "exception"
    text = str(error) if isinstance(error, Fault) else f"{type(error).__name__}: {error}"
    return pb.Fault(kind=kind, message=text[:2000], line=_line(error) or "")


def _line(error: BaseException) -> Optional[str]:
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "roundhouse_plugin" not in frame.filename:
            return f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
    return None
