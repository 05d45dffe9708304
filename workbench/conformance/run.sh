#!/usr/bin/env bash
# Runs unmodified OpenAI clients against a server with the demo model, an
# unmodified TypeScript over the scripts, the plugins of the examples in a
# server, and the pages in a browser: one PASS or FAIL line a check, exit status
# 1 when any failed.
#
#   workbench/conformance/run.sh [python] [go] [types] [plugins] [pages]    default: all
#
# ROUNDHOUSE_CHROMIUM names the browser, default chromium; ROUNDHOUSE_PAGES_ONLY
# runs only tests of the pages whose names have this text.
# ROUNDHOUSE_BIN names the program, default bin/roundhouse.
# Clients and the compiler are installed once, pinned, into .cache/conformance;
# that needs the network.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${ROUNDHOUSE_BIN:-$root/bin/roundhouse}
cache=$root/.cache/conformance
mkdir -p "$cache"

pids=()
stop_servers() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap stop_servers EXIT

# start NAME [FLAG...] starts a server and puts its address into $address.
start() {
  local name=$1; shift
  local out=$cache/$name.out log=$cache/$name.log
  : >"$out"
  env -u ROUNDHOUSE_API_KEY -u ROUNDHOUSE_LISTEN "$bin" serve --listen 127.0.0.1:0 "$@" >"$out" 2>"$log" </dev/null &
  local pid=$!
  pids+=("$pid")
  for _ in $(seq 600); do
    address=$(grep -om1 'http://127\.0\.0\.1:[0-9]*' "$out" || true)
    if [ -n "$address" ] && ready "$address"; then return; fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  echo "conformance: the server did not become ready; its log, $log, ends:" >&2
  tail -n 20 "$log" >&2
  exit 1
}

# ready asks /health with bash alone: curl may be missing.
ready() {
  local host=${1#http://} status
  exec 3<>"/dev/tcp/${host%:*}/${host#*:}" || return 1
  printf 'GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$host" >&3
  read -r status <&3
  exec 3>&-
  [[ $status == *" 200 "* ]]
}

python_clients() {
  local venv=$cache/venv
  if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
  fi
  "$venv/bin/python" "$here/client.py"
}

go_clients() {
  (cd "$here" && go test -count=1 -v . | sed -un \
    -e 's/^ *--- PASS: \(.*\) (.*/PASS go \1/p' -e 's/^ *--- FAIL: \(.*\) (.*/FAIL go \1/p' \
    -e '/^ok/p' -e '/\.go:/p' -e '/^panic/p')
}

# packages NAME installs what the folder NAME asks for, into $cache/NAME.
packages() {
  local dir=$cache/$1
  command -v npm >/dev/null || { echo "FAIL $1: npm is missing: install Node.js 20 or newer" >&2; return 1; }
  if ! cmp -s "$here/$1/package-lock.json" "$dir/installed.json"; then
    rm -rf "$dir" && mkdir -p "$dir" || return 1
    cp "$here/$1/package.json" "$here/$1/package-lock.json" "$dir" || return 1
    npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --silent || return 1
    cp "$here/$1/package-lock.json" "$dir/installed.json" || return 1
  fi
}

types_clients() {
  local dir=$cache/types
  packages types || return 1
  node "$here/types/check.mjs" "$root" "$dir/node_modules/typescript" || return 1
  node "$here/types/live.mjs" "$root" "$dir/node_modules/typescript"
}

# check COMMAND NAME: runs it, and says PASS or FAIL.
check() {
  local name=$1; shift
  if "$@"; then echo "PASS $name"; else echo "FAIL $name"; return 1; fi
}

plugins_clients() {
  local venvs=$cache/plugins folder=$cache/examples failed=0
  export ROUNDHOUSE_VENVS=$venvs
  bash "$root/plugins/python/generate.sh" --check || failed=1
  bash "$root/plugins/python/test.sh" || failed=1
  check "plugins twins of three languages" env ROUNDHOUSE_PYTHON="$venvs/examples/bin/python" \
    go -C "$root" test -count=1 -run '^TestTwins$' ./workbench/twin || failed=1
  rm -rf "$folder" && mkdir -p "$folder/recorded" || return 1
  local example
  for example in "$root"/plugins/examples/*/; do
    if [ -f "$example/plugin.toml" ]; then cp -r "${example%/}" "$folder"; else
      CGO_ENABLED=0 go -C "$root" build -o "$folder/$(basename "$example")" "./plugins/examples/$(basename "$example")" || return 1
    fi
  done
  local PATH=$venvs/examples/bin:$PATH ROUTING_DIR=$folder/recorded
  export PATH ROUTING_DIR
  python3 "$here/plugins.py" prepare "$folder" || return 1
  start plugins --config "$folder/roundhouse.toml"
  python3 "$here/plugins.py" "$address" "$folder" || failed=1
  return $failed
}

pages_clients() {
  local chromium=${ROUNDHOUSE_CHROMIUM:-}
  [ -n "$chromium" ] || chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    { echo "FAIL pages: there is no chromium: install it, or name a browser of its kind with ROUNDHOUSE_CHROMIUM" >&2; return 1; }
  packages pages || return 1
  CGO_ENABLED=0 go -C "$root" build -o "$cache/feed" ./workbench/live/feed || return 1
  ROUNDHOUSE_ROOT=$root ROUNDHOUSE_BIN=$bin ROUNDHOUSE_FEED=$cache/feed ROUNDHOUSE_CHROMIUM=$chromium \
    ROUNDHOUSE_PAGES_MODULES=$cache/pages/node_modules ROUNDHOUSE_PAGES_SCRIPTS=$here/pages/scripts node "$here/pages/run.mjs"
}

servers() {
  start open
  export ROUNDHOUSE_URL=$address
  start keyed --api-key conformance-key
  export ROUNDHOUSE_KEYED_URL=$address ROUNDHOUSE_KEY=conformance-key
  start tight --streams 1 --queue 1
  export ROUNDHOUSE_TIGHT_URL=$address
}

[ -x "$bin" ] || { echo "conformance: $bin is missing: run make build first, or set ROUNDHOUSE_BIN" >&2; exit 1; }
bin=$(realpath "$bin")
failed=0
[ $# -gt 0 ] || set -- python go types plugins pages
case " $* " in *" python "* | *" go "*) servers ;; esac
for client in "$@"; do
  "${client}_clients" || failed=1
done
exit $failed
