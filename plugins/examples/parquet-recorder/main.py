"""Writes what every token was routed to into a Parquet file, one row a token and layer, with
pyarrow. It changes nothing, but it is no observer: a recorder wants every event. The file
is complete once its answer has ended; one that was cut off keeps the row groups that were
written."""

import os
import re

import pyarrow as pa
import pyarrow.parquet as pq

from roundhouse_plugin import Fault, Plugin, metric, serve

SCHEMA = pa.schema([
    ("request", pa.string()), ("choice", pa.int32()), ("position", pa.int32()), ("prompt", pa.bool_()),
    ("layer", pa.int16()), ("experts", pa.list_(pa.uint16())), ("weights", pa.list_(pa.float32())),
])
GROUP = 4096  # rows kept in memory


class ParquetRecorder(Plugin):
    name, version = "parquet-recorder", "1.0"
    description = "writes routing to Parquet files"
    parameters = {
        "folder": {"type": "string", "default": "", "description": "of the files; ROUTING_DIR where it is not given"},
        "prompt": {"type": "boolean", "default": False, "description": "the prompt's rows too"},
    }

    def begin(self):
        folder = self.params["folder"] or os.environ.get("ROUTING_DIR", "")
        if not folder:
            raise Fault("bad_value", "the parameter folder says where files go, or ROUTING_DIR, which plugins.env has to name")
        self.capture_all = self.params["prompt"]
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", self.request_info.id) or "request"
        self.path = os.path.join(folder, f"{stem}-{self.request_info.choice}.parquet")
        self.rows, self.writer, self.written = [], pq.ParquetWriter(self.path, SCHEMA), 0

    def routing(self, r):
        for layer in range(r.layers):
            self.rows.append((self.request_info.id, self.request_info.choice, r.position, r.prompt, layer, r.ids(layer), r.weights(layer)))
        if len(self.rows) >= GROUP:
            self.flush()

    def flush(self):
        columns = list(zip(*self.rows)) or [[] for _ in SCHEMA]
        self.writer.write_table(pa.table([pa.array(c, type=f.type) for c, f in zip(columns, SCHEMA)], schema=SCHEMA))
        self.written += len(self.rows)
        self.rows = []

    def finish(self, f):
        self.flush()
        self.writer.close()
        metric("rows", self.written)
        self.emit("recorded", self.path)


if __name__ == "__main__":
    serve(ParquetRecorder)
