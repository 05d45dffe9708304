"""Plugins for Roundhouse: see and change what a model draws, while it runs.

A plugin is a class. The host makes one object of it for each choice of each request, and
calls the methods that the class has:

    from roundhouse_plugin import Plugin, serve

    class Calm(Plugin):
        name, version = "calm", "1.0"
        parameters = {"limit": {"type": "number", "default": 3.0}}
        entropy = True  # comes along with every logits event

        def logits(self, l, at):
            if l.entropy > self.params["limit"]:
                l.temperature(0.6)

    serve(Calm)

Methods may be ``async``: only such can ask the host for more than what comes along. All
run on one event loop, so that many answers never wait for a worker: what takes long and
does not await holds up all others; ``blocking = True`` has plain methods run on threads.
"""

from ._errors import Fault
from ._handles import At, Candidates, Hidden, Logits, Router, Routing, Token
from ._plugin import Finish, Model, Plugin, Request
from ._serve import serve
from ._side import event, log, metric
from ._steering import Steering

__all__ = [
    "At", "Candidates", "Fault", "Finish", "Hidden", "Logits", "Model", "Plugin", "Request",
    "Router", "Routing", "Steering", "Token", "event", "log", "metric", "serve",
]
