import tempfile
import unittest

import pyarrow.parquet as pq

from main import ParquetRecorder
from roundhouse_plugin import Fault
from roundhouse_plugin.testing import Choice


class Test(unittest.TestCase):
    def test_writes_what_it_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            c = Choice(ParquetRecorder, {"folder": folder, "prompt": True}, request_id="cmpl-../1")
            self.assertTrue(c.begun.spec.capture_all)
            for n in range(1100):  # more than one group of rows
                c.token(1)
                c.routing([[n % 8, 7], [1, 2], [3, 4], [5, 6]], [[0.75, 0.25]] * 4)
            path = c.finish().notices[-1].text
            self.assertEqual(path, folder + "/cmpl-___1-0.parquet")
            table = pq.read_table(path)
            self.assertEqual(table.num_rows, 4400)
            self.assertEqual(pq.ParquetFile(path).num_row_groups, 2)
            self.assertEqual(table.slice(4, 1).to_pylist(), [
                {"request": "cmpl-../1", "choice": 0, "position": 2, "prompt": False, "layer": 0, "experts": [1, 7], "weights": [0.75, 0.25]}])

    def test_needs_a_folder(self):
        with self.assertRaisesRegex(Fault, "ROUTING_DIR"):
            Choice(ParquetRecorder)


if __name__ == "__main__":
    unittest.main()
