"""The example plugins in a server with the demo model: each does what its page says.

    plugins.py prepare FOLDER     writes what the server needs
    plugins.py URL FOLDER         checks
"""

import json
import os
import re
import sys
import urllib.request


def prepare(folder):
    """The configuration, and a probe: of made-up residuals, for what it steers is checked, not
    what it knows."""
    sys.path.insert(0, os.path.join(folder, "probe"))
    import joblib
    import numpy as np
    from train import train

    values = np.random.default_rng(1).normal(size=(400, 256))
    joblib.dump(train(values, (values[:, :8].sum(axis=1) > 0).astype(int)), os.path.join(folder, "probe", "probe.joblib"))
    names = sorted(n for n in os.listdir(folder) if n not in ("recorded", "roundhouse.toml"))
    with open(os.path.join(folder, "roundhouse.toml"), "w") as f:
        f.write(f"[plugins]\ndir = {json.dumps(folder)}\nallow = {json.dumps(names)}\nenv = [\"ROUTING_DIR\", \"EXPORTER_LISTEN\"]\nbudget = \"2s\"\n")


def ask(url, plugin, params=None, **fields):
    """One completion, with a plugin."""
    body = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 24, "seed": 5, **fields,
            "roundhouse": {"plugin": plugin, "params": params or {}, "on_error": "fail", "return": ["hooks", "routing"]}}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def numpy_sampler(url, folder):
    a, b, cold = ask(url, "numpy-sampler"), ask(url, "numpy-sampler"), ask(url, "numpy-sampler", {"temperature": 0})
    assert a["choices"][0]["text"] == b["choices"][0]["text"], "the same seed draws the same"
    assert a["choices"][0]["text"] != cold["choices"][0]["text"]
    assert a["roundhouse"]["hooks"][0]["chosen"] == 24, a["roundhouse"]["hooks"]


def regex_guard(url, folder):
    a = ask(url, "regex-guard", {"pattern": r" there was a (fox|owl|rabbit) named [A-Z][a-z]{2,8}\."}, max_tokens=40)
    assert re.fullmatch(r" there was a (fox|owl|rabbit) named [A-Z][a-z]{2,8}\.", a["choices"][0]["text"]), a["choices"][0]["text"]
    assert a["choices"][0]["finish_reason"] == "stop"


def probe(url, folder):
    banned = {"layer": 3, "limit": 0.0, "steered": 4, "bias": -10000.0}
    first = ask(url, "probe", {**banned, "limit": 1.0})
    used = {e for t in first["choices"][0]["roundhouse"]["tokens"] for e in t["routing"]["ids"][4]}
    for expert in sorted(used)[:2]:
        a = ask(url, "probe", {**banned, "expert": expert})
        later = a["choices"][0]["roundhouse"]["tokens"][3:]  # lag 2, and the row before
        assert later and all(expert not in t["routing"]["ids"][4] for t in later), expert


def parquet_recorder(url, folder):
    import pyarrow.parquet as pq

    a = ask(url, "parquet-recorder")
    name = re.sub(r"[^A-Za-z0-9_-]", "_", a["id"])
    files = os.listdir(os.path.join(folder, "recorded"))
    assert len(files) == 1, (name, files)
    table = pq.read_table(os.path.join(folder, "recorded", files[0])).to_pylist()
    # Rows of the file are of the token's own row, those of the reply of the row before it.
    by_place = {(r["position"], r["layer"]): r["experts"] for r in table}
    tokens = a["choices"][0]["roundhouse"]["tokens"]
    compared = 0
    for t in tokens[1:]:
        for layer, experts in enumerate(t["routing"]["ids"]):
            assert by_place[t["routing"]["position"], layer] == experts, (t["routing"]["position"], layer)
            compared += 1
    assert compared == 23 * 8, compared


def entropy(url, folder):
    a = ask(url, "entropy")
    assert a["roundhouse"]["hooks"][0]["calls"] >= 24 and not a["roundhouse"]["degraded_tokens"]


def balancer(url, folder):
    a = ask(url, "balancer", max_tokens=60)
    assert a["roundhouse"]["hooks"][0]["steered_at"], a["roundhouse"]["hooks"]


def exporter(url, folder):
    a = ask(url, "exporter")
    assert not a["roundhouse"]["degraded_tokens"]
    with urllib.request.urlopen(url + "/roundhouse/v1/plugins", timeout=10) as answer:
        state = {p["name"]: p for p in json.load(answer)["plugins"]}["exporter"]
    with urllib.request.urlopen(url + "/roundhouse/v1/plugins/exporter/logs", timeout=10) as answer:
        text = " ".join(line["text"] for line in json.load(answer)["lines"])
    address = re.search(r"127\.0\.0\.1:\d+", text).group(0)
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    counted = sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(r"\w+_tokens_total{", line))
    assert state["lost"] == 0 and counted > 0, (state, counted)


def main():
    if sys.argv[1] == "prepare":
        return prepare(sys.argv[2])
    url, folder = sys.argv[1:]
    failed = 0
    there = {"numpy-sampler": numpy_sampler, "regex-guard": regex_guard, "probe": probe, "parquet-recorder": parquet_recorder,
             "entropy": entropy, "balancer": balancer, "exporter": exporter}
    for name, run in there.items():
        if not os.path.exists(os.path.join(folder, name)):
            continue
        try:
            run(url, folder)
            print(f"PASS plugin {name}")
        except Exception as error:  # one line a check
            failed = 1
            detail = error.read().decode()[:500] if hasattr(error, "read") else ""
            print(f"FAIL plugin {name}: {type(error).__name__}: {error} {detail}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
