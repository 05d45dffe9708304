import math
import unittest
from collections import Counter

from main import NumpySampler
from roundhouse_plugin.testing import Choice


class Test(unittest.TestCase):
    def test_draws_as_it_says(self):
        row = [math.log(p) for p in (0.5, 0.3, 0.15, 0.04, 0.01)]
        drawn = Counter()
        for seed in range(4000):
            drawn[Choice(NumpySampler, {"temperature": 1, "floor": 0.2}, seed=seed).sample(row)] += 1
        self.assertEqual(sorted(drawn), [0, 1, 2])  # 0.04 is below a fifth of 0.5
        for id, p in ((0, 0.5), (1, 0.3), (2, 0.15)):
            self.assertAlmostEqual(drawn[id] / 4000, p / 0.95, delta=0.03)

    def test_temperature_zero_is_the_best(self):
        self.assertEqual(Choice(NumpySampler, {"temperature": 0}).sample([0.0, 5.0, 1.0]), 1)

    def test_the_same_seed_draws_the_same(self):
        a, b = (Choice(NumpySampler, seed=3) for _ in range(2))
        row = [0.1 * i for i in range(50)]
        self.assertEqual(a.sample(row), b.sample(row))


if __name__ == "__main__":
    unittest.main()
