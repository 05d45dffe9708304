"""What a plugin tells of itself beside answers: log, metrics, events."""

from __future__ import annotations

import asyncio
import collections
import json
import threading
from typing import Any, AsyncIterator

from .v1 import plugin_pb2 as pb

_MOST = 1024  # reports that wait for somebody to listen; older ones are lost, and counted
_LEVELS = {"debug": pb.LEVEL_DEBUG, "info": pb.LEVEL_INFO, "warn": pb.LEVEL_WARN, "error": pb.LEVEL_ERROR}

_lock = threading.Lock()
_reports: "collections.deque[pb.WatchResponse]" = collections.deque(maxlen=_MOST)
_lost = 0


def _add(report: pb.WatchResponse) -> None:
    global _lost
    with _lock:
        _lost += len(_reports) == _MOST
        _reports.append(report)


def log(text: Any, level: str = "info") -> None:
    """Tells the host's log: debug, info, warn or error."""
    _add(pb.WatchResponse(log=pb.Log(level=_LEVELS[level], message=str(text))))


def metric(name: str, value: float) -> None:
    """Tells the newest value of a metric, which the host shows as roundhouse_plugin_metric."""
    _add(pb.WatchResponse(metric=pb.Metric(name=name, value=value)))


def event(name: str, value: Any) -> None:
    """Tells whoever watches the host's events; value becomes JSON."""
    _add(pb.WatchResponse(event=pb.CustomEvent(name=name, json=json.dumps(value))))


async def reports() -> AsyncIterator[pb.WatchResponse]:
    """All that is told, from now on."""
    global _lost
    while True:
        with _lock:
            batch, lost = list(_reports), _lost
            _reports.clear()
            _lost = 0
        if lost:
            yield pb.WatchResponse(log=pb.Log(level=pb.LEVEL_WARN, message=f"{lost} reports were lost: nobody took them in time"))
        for report in batch:
            yield report
        await asyncio.sleep(0.05)  # threads report too, and an event loop is not theirs to wake
