"""The package as a program: handshake, token, services, the host's death."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

import grpc

from roundhouse_plugin.v1 import plugin_pb2 as pb

PROGRAM = textwrap.dedent("""
    import time
    from roundhouse_plugin import Plugin, serve, log
    print("noise of a library")
    class P(Plugin):
        name, version = "p", "1.5"
        parameters = {"x": {"type": "integer", "default": 1}}
        async def begin(self):
            log("begun")
            print("more noise")
            self.words = await self.encode("hello")
        def logits(self, l, at):
            if at.position == 9:
                time.sleep(0.3)
            l.ban(self.words[0] + at.position)
        @classmethod
        def request(cls, body, params):
            return {**body, "x": params["x"]}
    serve(P)
""")


class TestServe(unittest.TestCase):
    def start(self, wrapper=(), **env):
        self.folder = tempfile.TemporaryDirectory(prefix="rh")
        self.addCleanup(self.folder.cleanup)
        program = os.path.join(self.folder.name, "main.py")
        with open(program, "w") as f:
            f.write(PROGRAM)
        env = {"PATH": os.environ["PATH"], "ROUNDHOUSE_PLUGIN": "7f1d5c1e-roundhouse-plugin", "PLUGIN_PROTOCOL_VERSIONS": "1,2",
               "PLUGIN_UNIX_SOCKET_DIR": self.folder.name, "ROUNDHOUSE_PLUGIN_TOKEN": "secret", "ROUNDHOUSE_PLUGIN_PARENT": str(os.getpid()), **env}
        env = {k: v for k, v in env.items() if v is not None}
        self.process = subprocess.Popen([*wrapper, sys.executable, program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end)
        return self.process

    def end(self):
        self.process.kill()
        self.process.communicate()

    def connect(self):
        line = self.process.stdout.readline()
        parts = line.strip().split("|")
        self.assertEqual(parts[:3] + parts[4:], ["1", "1", "unix", "grpc", ""], line)
        channel = grpc.insecure_channel("unix:" + parts[3])
        self.addCleanup(channel.close)
        return channel

    def call(self, channel, method, request, response, token="secret"):
        return channel.unary_unary(method, request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
                                   response_deserializer=response)(request, metadata=[("roundhouse-token", token)] if token else [], timeout=10)

    def test_services(self):
        self.start()
        channel = self.connect()
        d = self.call(channel, "/roundhouse.plugin.v1.PluginService/Describe", pb.DescribeRequest(), pb.DescribeResponse.FromString)
        self.assertEqual((d.api, d.name, d.version), (1, "p", "1.5"))
        self.assertEqual(list(d.spec.events), [pb.EVENT_REQUEST, pb.EVENT_LOGITS])
        r = self.call(channel, "/roundhouse.plugin.v1.PluginService/Rewrite", pb.RewriteRequest(body_json='{"a":1}', params_json='{"x":5}'), pb.RewriteResponse.FromString)
        self.assertEqual(r.body_json, '{"a": 1, "x": 5}')
        self.assertEqual(self.call(channel, "/grpc.health.v1.Health/Check", b"", bytes), b"\x08\x01")
        for token in ("", "wrong"):
            with self.assertRaises(grpc.RpcError) as caught:
                self.call(channel, "/grpc.health.v1.Health/Check", b"", bytes, token)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
        self.assertEqual(self.call(channel, "/plugin.GRPCController/Shutdown", b"", bytes), b"")
        self.assertEqual(self.process.wait(5), 0)
        self.assertEqual(self.process.stdout.read(), "", "standard output is the handshake's alone")
        self.assertIn("noise of a library", self.process.stderr.read())

    def test_sequence(self):
        """Questions are answered, and a step that was given up is followed by the next."""
        self.start()
        channel = self.connect()
        import queue

        out = queue.Queue()
        call = channel.stream_stream("/roundhouse.plugin.v1.PluginService/Sequence", request_serializer=pb.SequenceRequest.SerializeToString,
                                     response_deserializer=pb.SequenceResponse.FromString)
        replies = call(iter(out.get, None), metadata=[("roundhouse-token", "secret")], timeout=20)
        out.put(pb.SequenceRequest(begin=pb.Begin(model=pb.Model(name="m", layers=2, experts=4, tokens=100), params_json='{"x": 1}')))
        self.assertEqual(next(replies).read.encode.text, "hello")
        out.put(pb.SequenceRequest(read_result=pb.ReadResult(ids=[40])))
        self.assertEqual(list(next(replies).reply.spec.events), [pb.EVENT_REQUEST, pb.EVENT_LOGITS])
        for id, position in ((1, 9), (2, 3)):  # the first is slow, and the host does not wait for it
            out.put(pb.SequenceRequest(step=pb.Step(id=id, event=pb.EVENT_LOGITS, position=position, logits=pb.Logits())))
        got = [next(replies).reply for _ in range(2)]
        self.assertEqual([(r.step, list(r.edits[0].ids)) for r in got], [(1, [49]), (2, [43])])
        out.put(pb.SequenceRequest(step=pb.Step(id=3, event=pb.EVENT_TOKEN, token=pb.Token())))
        self.assertEqual(next(replies).reply.fault.kind, "misuse")
        out.put(None)
        self.assertEqual(list(replies), [])

    def test_refusals(self):
        for env, says in (({"ROUNDHOUSE_PLUGIN": None}, "roundhouse plugins check"), ({"PLUGIN_PROTOCOL_VERSIONS": "2,3"}, "speaks protocol 1"),
                          ({"PLUGIN_UNIX_SOCKET_DIR": None}, "PLUGIN_UNIX_SOCKET_DIR")):
            process = self.start(**env)
            _, err = process.communicate(timeout=20)
            self.assertEqual(process.returncode, 1)
            self.assertIn(says, err)

    @unittest.skipUnless(sys.platform == "linux", "looks into /proc")
    def test_host_dies(self):
        """The plugin ends with its host, though a shell stands between."""
        host = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        self.addCleanup(host.wait)
        self.addCleanup(host.kill)
        self.start(wrapper=("sh", "-c", '"$@"; true', "sh"), ROUNDHOUSE_PLUGIN_PARENT=str(host.pid))
        self.connect()
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            plugin = int(f.read().split()[0])
        host.kill()
        host.wait()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                os.kill(plugin, 0)
            except ProcessLookupError:
                return
            if self.process.poll() is not None:
                return
            time.sleep(0.05)
        self.fail("the plugin lives on")

    def test_interrupts(self):
        self.start()
        channel = self.connect()
        self.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        self.assertEqual(self.call(channel, "/grpc.health.v1.Health/Check", b"", bytes), b"\x08\x01")


if __name__ == "__main__":
    unittest.main()
