"""The package without a host: handlers, handles, steering, random numbers."""

import math
import unittest

from roundhouse_plugin import Fault, Plugin
from roundhouse_plugin._random import random
from roundhouse_plugin._steering import to_floats
from roundhouse_plugin.testing import Choice
from roundhouse_plugin.v1 import plugin_pb2 as pb


class Everything(Plugin):
    name = "everything"
    parameters = {"x": {"type": "number", "default": 2.0}, "y": {"type": "string"}}
    top, entropy, lag, hold = 2, True, 1, 4
    hidden_layers, hidden_write, route_layers = (1,), True, (2,)

    async def begin(self):
        self.seen = []
        self.words = await self.vocabulary()
        self.other = self.sequence(await self.encode("b"))
        self.steer.layer(1).ban([2, 3]).force(4)
        self.steer.all.gate(0.5)
        self.steer.vector([1.0, 2.0, 3.0, 4.0], layer=2, scale=0.5, name="v")

    def prompt(self, ids):
        return [0, *ids]

    async def logits(self, l, at):
        self.kept = l
        self.seen.append((at.position, l.top.ids, round(l.entropy, 3)))
        row, model = await l.read_full(), await l.model.read_top(1)
        p = await l.beside[self.other].read_logprobs([0, 1])
        l.bias(0, row[1]).ban([1, 2]).only([0, 3]).scale(2).add(self.other, -0.5).bias(model.ids, p[1])
        l.temperature(self.params["x"]).top_k(4).top_p(0.5).min_p(0.1).typical(0.9)
        self.emit("n", 1)
        self.emit("t", "text")
        self.emit("j", {"a": [1]})
        self.log("line")

    async def sample(self, c, at):
        return c.ids[1] if await c.draw() == 7 else None

    def token(self, t):
        if t.text == "c":
            self.stop("enough")
            self.inject([1, 2])
            self.rewind(3)

    def routing(self, r):
        self.steer.layer(0).bias(r.ids(1)[0], r.weights(1)[1])

    def rewound(self, position):
        self.seen.append(("back", position))

    async def hidden(self, h):
        h.write([2 * v for v in h.values])

    def route(self, r):
        r.logits[0] = -math.inf
        r.write(r.logits)

    def finish(self, f):
        self.emit("why", f.reason)


class TestChoice(unittest.TestCase):
    def setUp(self):
        self.choice = Choice(Everything, {"y": "z"}, tokens=["a", "b", "c", "d"])

    def test_begin(self):
        m = self.choice.begun
        self.assertEqual([list(s.ids) for s in m.sequences], [[1]])
        self.assertEqual(list(m.steering.layers[1].ban), [2, 3])
        self.assertEqual(m.steering.layers[3].gate, 0.5)
        self.assertEqual(m.steering.vectors[0].layer, 2)
        self.assertEqual(set(m.spec.events), set(range(pb.EVENT_PROMPT, pb.EVENT_ROUTE + 1)))
        self.assertEqual((m.spec.riding.top, m.spec.lag, m.spec.hold, list(m.spec.route_layers)), (2, 1, 4, [2]))
        self.assertEqual(self.choice.plugin.words, [b"a", b"b", b"c", b"d"])

    def test_logits(self):
        self.assertEqual(self.choice.prompt([5]), [0, 5])
        reply = self.choice.logits([1.0, 3.0, 2.0, 0.0], model=[0.0, 0.0, 9.0, 0.0], beside=[[0.0, 0.0, -math.inf, -math.inf]])
        kinds = [(e.kind, list(e.ids), round(e.value, 4)) for e in reply.edits]
        self.assertEqual(kinds, [
            (pb.EDIT_KIND_BIAS, [0], 3.0), (pb.EDIT_KIND_BAN, [1, 2], 0.0), (pb.EDIT_KIND_ONLY, [0, 3], 0.0), (pb.EDIT_KIND_SCALE, [], 2.0),
            (pb.EDIT_KIND_ADD, [], -0.5), (pb.EDIT_KIND_BIAS, [2], -0.6931)])
        s = reply.settings
        self.assertEqual((s.temperature, s.top_k, s.top_p, s.min_p, s.typical), (2.0, 4, 0.5, 0.1, 0.9))
        self.assertEqual([(n.name, n.WhichOneof("value")) for n in reply.notices], [("n", "number"), ("t", "text"), ("j", "json"), ("log", "log")])
        self.assertFalse(reply.HasField("steering"), "it has not changed")
        self.assertEqual(self.choice.plugin.seen, [(2, [1, 2], 0.948)])
        with self.assertRaisesRegex(Fault, "after its handler returned"):
            self.choice.plugin.kept.ban(1)

    def test_choices_and_course(self):
        self.assertEqual(self.choice.sample([0.0, 1.0, 2.0], drawn=7), 1)
        self.assertIsNone(self.choice.sample([0.0, 1.0, 2.0], drawn=6))
        reply = self.choice.token(2)
        self.assertEqual((reply.stop, list(reply.inject), reply.rewind.position), ("enough", [1, 2], 3))
        self.choice.rewind(1)
        self.choice.token(0)
        self.assertEqual(self.choice.plugin.seen, [("back", 1)])
        reply = self.choice.routing([[0, 1], [5, 4], [1, 2], [3, 4]], [[0.5, 0.5], [0.75, 0.25], [1, 0], [1, 0]])
        self.assertEqual(dict(reply.steering.layers[0].bias), {5: 0.25})
        self.assertEqual([n.text for n in self.choice.finish().notices], ["length"])

    def test_within(self):
        self.assertEqual(list(to_floats(self.choice.hidden(1, [1, 2, 3, 4], within=True).write)), [2, 4, 6, 8])
        self.assertEqual(list(to_floats(self.choice.route(2, [1, 2, 3]).write)), [-math.inf, 2, 3])
        with self.assertRaisesRegex(Fault, "hidden_write"):
            self.choice.hidden(1, [1, 2, 3, 4])

    def test_parameters(self):
        with self.assertRaisesRegex(ValueError, "must be given: .'y'"):
            Choice(Everything)
        with self.assertRaisesRegex(ValueError, "there are not: .'q'"):
            Choice(Everything, {"y": "", "q": 1})


class TestFaults(unittest.TestCase):
    def test_steering_goes_back(self):
        class Failing(Plugin):
            name = "failing"

            def logits(self, l, at):
                self.steer.layer(0).ban(1)
                raise RuntimeError("no")

            def token(self, t):
                pass

        choice = Choice(Failing)
        with self.assertRaisesRegex(Fault, "RuntimeError: no"):
            choice.logits([0.0] * 16)
        self.assertFalse(choice.token(1).HasField("steering"))

    def test_what_does_not_come_along(self):
        class Reading(Plugin):
            name = "reading"

            def logits(self, l, at):
                l.top

        with self.assertRaisesRegex(Fault, "await read_top"):
            Choice(Reading).logits([0.0] * 16)

    def test_threads(self):
        import threading

        class Slow(Plugin):
            name, blocking = "slow", True

            def logits(self, l, at):
                self.where = threading.current_thread()
                l.ban(1)

        choice = Choice(Slow)
        self.assertEqual(len(choice.logits([0.0] * 16).edits), 1)
        self.assertIsNot(choice.plugin.where, threading.main_thread())


class TestRandom(unittest.TestCase):
    def test_same_as_in_go(self):
        # hook.Random of engine/hook: its test has the same.
        for key, want in RANDOM.items():
            self.assertEqual(random(*key), want)


RANDOM = {
    (0, 0, 0, 0, 0): float.fromhex("0x1.483837cd02f6dp-01"),
    (7, 2, 3, 1, 33554432): float.fromhex("0x1.f3984d4a27c38p-02"),
    (9223372036854788153, 1, 1048576, 0, 134217733): float.fromhex("0x1.1630d09b00e01p-01"),
    (18446744073709551615, 0, 9, 64, 67108865): float.fromhex("0x1.4904ab5b60cp-01"),
}

if __name__ == "__main__":
    unittest.main()
