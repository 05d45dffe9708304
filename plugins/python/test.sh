#!/usr/bin/env bash
# The tests of the package with the oldest and the newest Python, grpcio and protobuf that
# are supported, and those of the examples. What a machine has no Python for is skipped,
# and says so.
set -uo pipefail
cd "$(dirname "$0")"
venvs=$(realpath -m "${ROUNDHOUSE_VENVS:-../../bin/venvs}")
mkdir -p "$venvs"
failed=0

# python VERSION: prints the path of one that runs.
python() {
  local found
  for found in "python$1" "$HOME"/.pyenv/versions/"$1".*/bin/python; do
    if command -v "$found" >/dev/null && [[ $("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) == "$1" ]]; then
      command -v "$found"
      return
    fi
  done
  return 1
}

# venv NAME PYTHON PACKAGES...: makes a virtual environment with the package in it.
venv() {
  local dir=$venvs/$1 program=$2
  shift 2
  if [[ ! -x $dir/bin/python ]]; then "$program" -m venv "$dir"; fi
  "$dir/bin/pip" install --quiet --disable-pip-version-check -e . "$@" || return 1
}

# report NAME STATUS
report() {
  if (($2 == 0)); then echo "PASS python $1"; else
    echo "FAIL python $1"
    failed=1
  fi
}

# sdk NAME VERSION PACKAGES...
sdk() {
  local name=$1 version=$2 program
  shift 2
  if ! program=$(python "$version"); then
    echo "SKIP python $name: there is no Python $version"
    return
  fi
  local code=0 versions
  venv "$name" "$program" "$@" && "$venvs/$name/bin/python" -W error::ResourceWarning -m unittest discover -q -s tests || code=1
  versions=$("$venvs/$name/bin/python" -c 'import grpc, google.protobuf as p; print("grpcio", grpc.__version__ + ", protobuf", p.__version__)')
  report "$name, Python $version, $versions" $code
}

sdk oldest 3.9 'grpcio==1.60.0' 'protobuf==4.25.0'
sdk newest 3.13 'grpcio==1.85.3' 'protobuf==7.36.2' 'mypy==2.4.1' 'types-protobuf==7.35.1.20260906'
if [[ -x $venvs/newest/bin/mypy ]]; then
  code=0
  "$venvs/newest/bin/mypy" --strict --ignore-missing-imports --exclude plugin_pb2.py src/roundhouse_plugin || code=1
  report "types of the package" $code
fi

venv examples "$(command -v python3)" $(sed 's/^/-r /' < <(ls ../examples/*/requirements.txt))
for example in ../examples/*/test_main.py; do
  code=0
  (cd "$(dirname "$example")" && "$venvs/examples/bin/python" -m unittest -q test_main) || code=1
  report "example $(basename "$(dirname "$example")")" $code
done
exit $failed
