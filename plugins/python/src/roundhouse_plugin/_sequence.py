"""One choice that is served."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections import deque
from typing import Any, Awaitable, Callable, Deque, Dict, List, Optional, Type

from ._errors import Fault, to_fault
from ._handles import At, Choices, Hidden, Logits, Router, Token, to_candidates, to_routing
from ._plugin import METHODS, Finish, Model, Plugin, Request, Wishes, spec_of
from ._side import log
from ._steering import Steering
from .v1 import plugin_pb2 as pb

#: How many steps may wait before no more are read: the host then notices that an observer is
#: slow. While a handler asks, its answer is read past them.
WAITING = 256

QUIET = (pb.EVENT_TOKEN, pb.EVENT_ROUTING, pb.EVENT_HIDDEN)  # of an observer


class Shared:
    """What all choices of a program have together."""

    def __init__(self) -> None:
        self.vocabularies: Dict[str, List[bytes]] = {}


class Served:
    """Serves a stream of messages with an object of the plugin's class."""

    def __init__(self, cls: Type[Plugin], shared: Shared, read: Callable[[], Awaitable[Optional[pb.SequenceRequest]]],
                 write: Callable[[pb.SequenceResponse], Awaitable[None]]) -> None:
        self.cls, self.shared, self.sequences = cls, shared, 0
        self._read, self._write = read, write
        self._steps: Deque[pb.SequenceRequest] = deque()
        self._moved = asyncio.Condition()
        self._asking = self._ended = False
        self._result: Optional[pb.ReadResult] = None
        self.plugin: Optional[Plugin] = None
        self._choice = 0

    async def run(self) -> None:
        """Serves until the host has ended the choice."""
        reading = asyncio.ensure_future(self._sort())
        try:
            while True:
                async with self._moved:
                    await self._moved.wait_for(lambda: self._steps or self._ended)
                    if not self._steps:
                        return
                    m = self._steps.popleft()
                    self._moved.notify_all()
                reply = await self.serve(m)
                if reply is not None:
                    await self._write(pb.SequenceResponse(reply=reply))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _sort(self) -> None:
        """Sorts what arrives."""
        while True:
            try:
                m = await self._read()
            except asyncio.CancelledError:
                raise
            except Exception:  # the stream is gone: run ends with it
                m = None
            async with self._moved:
                if m is None:
                    self._ended = True
                elif m.HasField("read_result"):
                    self._result = m.read_result
                else:
                    self._steps.append(m)
                self._moved.notify_all()
                await self._moved.wait_for(lambda: self._ended or self._asking or len(self._steps) < WAITING)
                if self._ended:
                    return

    async def ask(self, read: pb.Read) -> pb.ReadResult:
        """Asks the host."""
        async with self._moved:
            self._asking, self._result = True, None
            self._moved.notify_all()
        try:
            await self._write(pb.SequenceResponse(read=read))
            async with self._moved:
                await self._moved.wait_for(lambda: self._result is not None or self._ended)
                result = self._result
        finally:
            self._asking = False
        if result is None:
            raise Fault("exception", "the host has ended the choice")
        if result.HasField("fault"):
            raise Fault(result.fault.kind, result.fault.message)
        return result

    async def serve(self, m: pb.SequenceRequest) -> Optional[pb.Reply]:
        """Serves one message."""
        reply = pb.Reply(step=m.step.id if m.HasField("step") else 0)
        plugin = self.plugin
        mark = plugin.steer._mark() if plugin else None
        quiet = m.HasField("step") and plugin is not None and plugin.observer and m.step.event in QUIET
        try:
            if m.HasField("begin") and plugin is None:
                await self._begin(m.begin, reply)
            elif m.HasField("step") and plugin is not None:
                if m.step.HasField("steering"):
                    plugin.steer._replace(m.step.steering)
                mark = plugin.steer._mark()
                await self._step(plugin, m.step, reply)
            else:
                raise Fault("misuse", "a sequence begins with Begin, which comes once")
            assert self.plugin is not None
            self._wish(self.plugin, reply)
        except Exception as error:  # of the plugin's own code: one step fails, and no more
            fault = to_fault(error)
            notices = self.plugin._wishes.notices if self.plugin else []
            if plugin is not None and mark is not None:
                plugin.steer._back(mark)
            reply = pb.Reply(step=reply.step, fault=fault, notices=notices)
            if quiet:
                log(f"{pb.Event.Name(m.step.event)} of position {m.step.position}: {fault.message} {fault.line}", "error")
        return None if quiet else reply

    async def _begin(self, m: pb.Begin, reply: pb.Reply) -> None:
        plugin = self.cls()
        plugin._served, plugin._seed, plugin._wishes = self, m.seed, Wishes()
        plugin._draws, plugin._bit, self._choice = 0, 0, m.request.choice
        plugin.params = json.loads(m.params_json or "{}")
        o = m.model
        plugin.model = Model(o.name, o.layers, o.experts, o.top_k, o.hidden, o.tokens, list(o.eos), o.tokenizer)
        r = m.request
        plugin.request_info = Request(r.id, r.max_tokens, r.choice, r.choices, json.loads(r.body_json) if r.body_json else None)
        plugin.steer = Steering(o.layers)
        plugin.at = At(0, 0, "prompt", r.choice, 0)
        self.plugin = plugin
        try:
            begin = getattr(plugin, "begin", None)
            if begin is not None:
                await self._call(plugin, begin)
        except BaseException:
            self.plugin = None
            raise
        reply.spec.CopyFrom(spec_of(plugin))
        reply.sequences.extend(pb.TokenIDs(ids=ids) for ids in plugin._wishes.sequences)
        self.sequences += len(plugin._wishes.sequences)

    async def _call(self, plugin: Plugin, method: Callable[..., Any], *args: Any) -> Any:
        if inspect.iscoroutinefunction(method):
            return await method(*args)
        if plugin.blocking:
            return await asyncio.get_running_loop().run_in_executor(None, method, *args)
        return method(*args)

    async def _step(self, plugin: Plugin, m: pb.Step, reply: pb.Reply) -> None:
        name, bit = METHODS.get(m.event, ("", 0))
        method = getattr(plugin, name, None) if name and name != "request" else None
        if method is None:
            raise Fault("misuse", f"the plugin has no handler of event {m.event}")
        phase = "prompt" if m.phase == pb.PHASE_PROMPT else "decode"
        at = plugin.at = At(m.position, m.attempt, phase, self._choice, m.next_position)
        plugin._draws, plugin._bit, plugin._wishes, self.sequences = 0, bit, Wishes(), m.sequences
        if m.HasField("rewound_to"):
            rewound = getattr(plugin, "rewound", None)
            if rewound is not None:
                await self._call(plugin, rewound, m.rewound_to)
        await getattr(self, "_" + name)(plugin, method, m, at, reply)

    def _wish(self, plugin: Plugin, reply: pb.Reply) -> None:
        """Puts into a reply what the call wants beside its answer."""
        w = plugin._wishes
        reply.notices.extend(w.notices)
        reply.stop = w.stop
        reply.inject.extend(w.inject)
        if w.rewind is not None:
            reply.rewind.CopyFrom(w.rewind)
        steering = plugin.steer._changed()
        if steering is not None:
            reply.steering.CopyFrom(steering)
        plugin._wishes = Wishes()

    # One method an event.

    async def _prompt(self, plugin: Plugin, method: Any, m: pb.Step, at: At, reply: pb.Reply) -> None:
        out = await self._call(plugin, method, list(m.prompt.ids))
        if out is not None:
            reply.prompt.ids.extend(out)
        reply.sequences.extend(pb.TokenIDs(ids=ids) for ids in plugin._wishes.sequences)
        self.sequences += len(plugin._wishes.sequences)

    async def _logits(self, plugin: Plugin, method: Any, m: pb.Step, at: At, reply: pb.Reply) -> None:
        l = Logits(self, at, m.logits, m.sequences)
        try:
            await self._call(plugin, method, l, at)
        finally:
            l._end()
        reply.edits.extend(l._edits)
        if l._settings is not None:
            reply.settings.CopyFrom(l._settings)

    async def _sample(self, plugin: Plugin, method: Any, m: pb.Step, at: At, reply: pb.Reply) -> None:
        c = Choices(self, at, to_candidates(m.candidates))
        try:
            chosen = await self._call(plugin, method, c, at)
        finally:
            c._over = True
        if chosen is not None:
            reply.chosen = int(chosen)

    async def _token(self, plugin: Plugin, method: Any, m: pb.Step, at: At, reply: pb.Reply) -> None:
        t = m.token
        await self._call(plugin, method, Token(m.position, t.id, t.text, t.logprob, t.forced))

    async def _routing(self, plugin: Plugin, method: Any, m: pb.Step, at: At, reply: pb.Reply) -> None:
        await self._call(plugin, method, to_routing(m.routing, m.position, at.phase == "prompt"))

    async def _hidden(self, plugin: Plugin, method: Any, m: pb.Step, at: At, reply: pb.Reply) -> None:
        h = Hidden(self, at, m.hidden)
        try:
            await self._call(plugin, method, h)
        finally:
            h._over = True
        reply.write = h._written

    async def _route(self, plugin: Plugin, method: Any, m: pb.Step, at: At, reply: pb.Reply) -> None:
        r = Router(self, at, m.router)
        try:
            await self._call(plugin, method, r)
        finally:
            r._over = True
        reply.write = r._written

    async def _finish(self, plugin: Plugin, method: Any, m: pb.Step, at: At, reply: pb.Reply) -> None:
        f = m.finish
        await self._call(plugin, method, Finish(f.reason, f.prompt_tokens, f.completion_tokens))
