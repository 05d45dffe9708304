"""The program's side of the handshake, and its server."""

from __future__ import annotations

import asyncio
import hmac
import inspect
import json
import os
import signal
import sys
import threading
import time
from typing import Any, AsyncIterator, List, Type

import grpc
import grpc.aio

from . import _side
from ._errors import to_fault
from ._plugin import Plugin, spec_of
from ._sequence import Served, Shared
from .v1 import plugin_pb2 as pb

API = 1  # of the contract
PROTOCOL = 1  # of the handshake
COOKIE = ("ROUNDHOUSE_PLUGIN", "7f1d5c1e-roundhouse-plugin")
TOKEN = ("ROUNDHOUSE_PLUGIN_TOKEN", "roundhouse-token")
PARENT = "ROUNDHOUSE_PLUGIN_PARENT"
MAX_MESSAGE = 32 << 20
_NOTHING: List[bytes] = []  # of streams that say nothing


def _guard_stdout() -> int:
    """Keeps standard output for the handshake: what the plugin and its libraries print goes to
    standard error. Returns the descriptor of the real one."""
    out = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return out


# From the first import on, where a host started this program: libraries print too.
_out = _guard_stdout() if os.environ.get(COOKIE[0]) == COOKIE[1] else 1


def serve(cls: Type[Plugin]) -> None:
    """Serves a plugin to the host that started this program, until the host is done with it."""
    name = cls.name
    if not name or len(name) > 64 or not set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-"):
        sys.exit(f"roundhouse_plugin: the name {name!r}: it is made of a-z, 0-9, _ and -, 64 at most")
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        sys.exit(f"{name} is a plugin of Roundhouse, which starts it: `roundhouse plugins check {sys.argv[0]}` tries it")
    if str(PROTOCOL) not in os.environ.get("PLUGIN_PROTOCOL_VERSIONS", "").split(","):
        sys.exit(f"{name} speaks protocol {PROTOCOL} of plugins, and this host knows {os.environ.get('PLUGIN_PROTOCOL_VERSIONS')}")
    folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR", "")
    if not folder:
        sys.exit(f"{name}: the host names no folder for the socket (PLUGIN_UNIX_SOCKET_DIR)")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C of a terminal is the host's to handle
    _watch_parent(os.environ.get(PARENT, ""))
    try:
        asyncio.run(_run(cls, os.path.join(folder, "plugin"), _out))
    except KeyboardInterrupt:
        pass


def _watch_parent(host: str) -> None:
    """Ends the process once the host is gone: by the system where it can, by a look twice a
    second where something stands between."""
    if not host.isdigit():
        return
    pid, parent = int(host), os.getppid()
    if sys.platform == "linux" and parent == pid:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG

    def look() -> None:
        while True:
            try:
                os.kill(pid, 0)
            except PermissionError:
                pass
            except OSError:
                os._exit(1)
            if os.getppid() != parent:
                os._exit(1)
            time.sleep(0.5)

    threading.Thread(target=look, name="watch-parent", daemon=True).start()


class _Service:
    """The services, by their methods. Messages of go-plugin's own are empty, or none of ours."""

    def __init__(self, cls: Type[Plugin]) -> None:
        self.cls, self.shared = cls, Shared()
        self.token = os.environ.pop(TOKEN[0], "")  # children of this program need it not
        self.ended = asyncio.Event()

    async def check(self, context: Any) -> None:
        """Whether a call comes from who started this program."""
        if not self.token:
            return
        given = [v for k, v in context.invocation_metadata() or () if k == TOKEN[1]]
        if len(given) != 1 or not hmac.compare_digest(str(given[0]), self.token):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"the call has not the token of this launch in {TOKEN[1]}")

    async def describe(self, m: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        await self.check(context)
        c = self.cls
        return pb.DescribeResponse(api=API, name=c.name, version=c.version, description=c.description,
                                   params_json=json.dumps(c.parameters), spec=spec_of(c))

    async def rewrite(self, m: pb.RewriteRequest, context: Any) -> pb.RewriteResponse:
        await self.check(context)
        try:
            method: Any = getattr(self.cls, "request")
            body = method(json.loads(m.body_json), json.loads(m.params_json or "{}"))
            if inspect.isawaitable(body):
                body = await body
        except Exception as error:
            return pb.RewriteResponse(fault=to_fault(error))
        return pb.RewriteResponse(body_json="" if body is None else json.dumps(body))

    async def sequence(self, _: Any, context: Any) -> None:
        await self.check(context)

        async def read() -> Any:
            m = await context.read()
            return None if m is grpc.aio.EOF else m

        await Served(self.cls, self.shared, read, context.write).run()

    async def watch(self, _: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        await self.check(context)
        async for report in _side.reports():
            yield report

    async def health(self, _: bytes, context: Any) -> bytes:
        await self.check(context)
        return b"\x08\x01"  # SERVING

    async def shutdown(self, _: bytes, context: Any) -> bytes:
        await self.check(context)
        self.ended.set()
        return b""

    async def quiet(self, _: bytes, context: Any) -> AsyncIterator[bytes]:
        """StreamStdio: what is printed goes to standard error."""
        await self.check(context)
        await self.ended.wait()
        for nothing in _NOTHING:
            yield nothing

    async def drain(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """StartStream of the broker, which this protocol has no use for."""
        await self.check(context)
        async for _ in messages:
            pass
        for nothing in _NOTHING:
            yield nothing

    def handlers(self) -> List[Any]:
        def ours(kind: Any, method: Any, request: Any, response: Any) -> Any:
            return kind(method, request_deserializer=request.FromString, response_serializer=response.SerializeToString)

        raw = {"request_deserializer": None, "response_serializer": None}
        return [grpc.method_handlers_generic_handler(service, methods) for service, methods in {
            "roundhouse.plugin.v1.PluginService": {
                "Describe": ours(grpc.unary_unary_rpc_method_handler, self.describe, pb.DescribeRequest, pb.DescribeResponse),
                "Rewrite": ours(grpc.unary_unary_rpc_method_handler, self.rewrite, pb.RewriteRequest, pb.RewriteResponse),
                "Sequence": ours(grpc.stream_stream_rpc_method_handler, self.sequence, pb.SequenceRequest, pb.SequenceResponse),
                "Watch": ours(grpc.unary_stream_rpc_method_handler, self.watch, pb.WatchRequest, pb.WatchResponse),
            },
            "grpc.health.v1.Health": {"Check": grpc.unary_unary_rpc_method_handler(self.health, **raw)},
            "plugin.GRPCController": {"Shutdown": grpc.unary_unary_rpc_method_handler(self.shutdown, **raw)},
            "plugin.GRPCStdio": {"StreamStdio": grpc.unary_stream_rpc_method_handler(self.quiet, **raw)},
            "plugin.GRPCBroker": {"StartStream": grpc.stream_stream_rpc_method_handler(self.drain, **raw)},
        }.items()]


async def _run(cls: Type[Plugin], socket: str, out: int) -> None:
    service = _Service(cls)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)])
    server.add_generic_rpc_handlers(tuple(service.handlers()))
    server.add_insecure_port("unix:" + socket)
    await server.start()
    os.write(out, f"1|{PROTOCOL}|unix|{socket}|grpc|\n".encode())
    os.close(out)
    await service.ended.wait()
    await server.stop(grace=0.5)
