import os
import tempfile
import unittest
from unittest import mock

import joblib
import numpy as np

import main
from main import Probe
from roundhouse_plugin import Fault
from roundhouse_plugin.testing import Choice
from train import train


class Test(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        rng = np.random.default_rng(0)
        values = rng.normal(size=(200, 4))
        joblib.dump(train(values, (values[:, 0] > 0).astype(int)), os.path.join(folder.name, "probe.joblib"))
        patch = mock.patch.object(main, "__file__", os.path.join(folder.name, "main.py"))
        patch.start()
        self.addCleanup(patch.stop)
        Probe.loaded.clear()

    def test_steers_while_the_probe_says_so(self):
        c = Choice(Probe, {"layer": 1, "steered": 2, "expert": 5, "bias": -3})
        self.assertEqual(list(c.begun.spec.hidden_layers), [1])
        reply = c.hidden(1, [2.0, 0, 0, 0])
        self.assertGreater(reply.notices[0].number, 0.9)
        self.assertEqual(dict(reply.steering.layers[2].bias), {5: -3.0})
        self.assertFalse(c.hidden(1, [3.0, 0, 0, 0]).HasField("steering"))
        reply = c.hidden(1, [-2.0, 0, 0, 0])
        self.assertEqual(dict(reply.steering.layers[2].bias), {})

    def test_refusals(self):
        with self.assertRaisesRegex(Fault, "train.py makes one"):
            Choice(Probe, {"probe": "none.joblib"})
        with self.assertRaisesRegex(Fault, "the residual has 8"):
            Choice(Probe, hidden=8)


if __name__ == "__main__":
    unittest.main()
