#!/usr/bin/env bash
# Makes the Python code of the messages with the oldest protobuf that is supported: what
# protoc 25 writes runs with every later runtime. With --check it compares instead.
set -euo pipefail
cd "$(dirname "$0")"
venv=${ROUNDHOUSE_VENVS:-../../bin/venvs}/generate
out=src/roundhouse_plugin/v1
if [[ ! -x $venv/bin/python ]]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet 'grpcio-tools==1.62.3' 'protobuf==4.25.8' 'setuptools<80'
fi
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$venv/bin/python" -m grpc_tools.protoc -I ../proto --python_out="$made" --pyi_out="$made" roundhouse/plugin/v1/plugin.proto
made_v1=$made/roundhouse/plugin/v1
if [[ ${1:-} == --check ]]; then
  diff -u "$out/plugin_pb2.py" "$made_v1/plugin_pb2.py" && diff -u "$out/plugin_pb2.pyi" "$made_v1/plugin_pb2.pyi"
  echo "PASS python messages are as plugin.proto has them"
else
  cp "$made_v1"/plugin_pb2.py "$made_v1"/plugin_pb2.pyi "$out"
fi
