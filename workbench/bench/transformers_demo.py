#!/usr/bin/env python3
"""Measure the demo model in transformers (float32, CPU) as bench_test.go does.

    python3 -m venv .cache/bench-venv
    .cache/bench-venv/bin/pip install numpy torch==2.9.1 transformers==5.23.0
    .cache/bench-venv/bin/python workbench/bench/transformers_demo.py workbench/demo/model

The weights are unpacked here, with numpy, from the AutoRound safetensors
(symmetric, gptq layout): float32(scale) * (code - 2^(bits-1)). Prints the
greedy continuation's first ids too, so that a wrong reading is seen.
"""

import json
import pathlib
import struct
import sys
import time

import numpy
import torch
import transformers
from transformers import AutoConfig, Qwen3NextForCausalLM

REPEATS = 5
DECODED = 128
PREFILL = (64, 512, 1536)
DECODE_AFTER = (64, 1536)
TYPES = {"I32": numpy.int32, "F16": numpy.float16, "F32": numpy.float32}


def read(path):
    """Yield name and array (float32 or int32) of each tensor of a file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = data[8 + length + begin : 8 + length + end]
        if entry["dtype"] == "BF16":
            wide = numpy.frombuffer(raw, numpy.uint16).astype(numpy.uint32) << 16
            array = wide.view(numpy.float32)
        else:
            array = numpy.frombuffer(raw, TYPES[entry["dtype"]])
        yield name, array.reshape(entry["shape"])


def unpack(qweight, scales):
    """Return the weight [N, K] of a symmetric gptq module.

    qweight holds int32 words [K*bits/32, N], codes along K from the low bits
    up; scales are [G, N]. The demo has 4 and 8 bits and full groups of 128.
    """
    rows = qweight.shape[0]
    group = 128
    inputs = scales.shape[0] * group
    bits = 32 * rows // inputs
    shifts = numpy.arange(0, 32, bits, dtype=numpy.uint32)[None, :, None]
    codes = (qweight.view(numpy.uint32)[:, None, :] >> shifts) & (2**bits - 1)
    codes = codes.reshape(inputs, -1).astype(numpy.float32) - 2 ** (bits - 1)
    return (codes * numpy.repeat(scales.astype(numpy.float32), group, axis=0)).T


def weights(folder):
    """Return the state dict of the model in float32."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(read(path))
    state = {}
    for name, array in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind == "qweight":
            state[module + ".weight"] = unpack(array, tensors[module + ".scales"])
        elif kind not in ("scales", "qzeros"):
            state[name] = array
    return {name: torch.from_numpy(numpy.array(a, numpy.float32)) for name, a in state.items()}


def stack_experts(state, model):
    """Put experts into the stacked parameters of newer transformers."""
    wanted = set(model.state_dict())
    for layer in range(model.config.num_hidden_layers):
        prefix = f"model.layers.{layer}.mlp.experts."
        if prefix + "gate_up_proj" not in wanted:
            continue
        take = lambda expert, part: state.pop(f"{prefix}{expert}.{part}_proj.weight")
        experts = range(model.config.num_experts)
        state[prefix + "gate_up_proj"] = torch.stack(
            [torch.cat([take(e, "gate"), take(e, "up")]) for e in experts]
        )
        state[prefix + "down_proj"] = torch.stack([take(e, "down") for e in experts])
    return state


def load(folder):
    config = AutoConfig.from_pretrained(folder)
    config.quantization_config = None
    del config.quantization_config
    config._attn_implementation = "sdpa"
    config.dtype = torch.float32
    model = Qwen3NextForCausalLM(config).float().eval()
    model.load_state_dict(stack_experts(weights(folder), model), strict=True)
    return model


def prompt(n):
    return torch.tensor([[3 + i * 7919 % 4000 for i in range(n)]])


def median(measure):
    measure()
    return sorted(measure() for _ in range(REPEATS))[REPEATS // 2]


@torch.inference_mode()
def prefill_seconds(model, length):
    ids = prompt(length)
    start = time.perf_counter()
    model(ids, use_cache=True, logits_to_keep=1)
    return time.perf_counter() - start


@torch.inference_mode()
def decode_seconds(model, length):
    """Time of DECODED single-token steps, without generate()'s own cost."""
    out = model(prompt(length), use_cache=True, logits_to_keep=1)
    start = time.perf_counter()
    for _ in range(DECODED):
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
    return time.perf_counter() - start


@torch.inference_mode()
def greedy(model, length, count):
    out, ids = model(prompt(length), use_cache=True), []
    for _ in range(count):
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        ids.append(token.item())
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
    return ids


def main():
    model = load(pathlib.Path(sys.argv[1]))
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads")
    print(f"greedy after 64: {greedy(model, 64, 8)}")
    for length in PREFILL:
        print(f"prefill {length}: {length / median(lambda: prefill_seconds(model, length)):.1f} tok/s")
    for length in DECODE_AFTER:
        print(f"decode after {length}: {DECODED / median(lambda: decode_seconds(model, length)):.1f} tok/s")


if __name__ == "__main__":
    main()
