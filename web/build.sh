#!/usr/bin/env bash
# Builds the pages from src into dist, with the packages of package-lock.json and no others;
# --check builds elsewhere and compares the bytes. Needs npm and, once, the network.
set -euo pipefail
cd "$(dirname "$0")"
command -v npm >/dev/null || { echo "web: npm is missing: install Node.js 20.19 or newer" >&2; exit 1; }
cmp -s package-lock.json node_modules/installed.json || {
  npm ci --ignore-scripts --no-audit --no-fund --silent # each package by the hash in the lock file
  cp package-lock.json node_modules/installed.json
}
node_modules/.bin/tsc
if [ "${1:-}" != --check ]; then exec node_modules/.bin/vite build --logLevel warn; fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
ROUNDHOUSE_WEB_OUT=$out node_modules/.bin/vite build --logLevel error
diff -r dist "$out" || { echo "web/dist is not what web/src makes: run make web" >&2; exit 1; }
echo "web/dist is what web/src makes, $(cat dist/assets/* dist/index.html | gzip -9 | wc -c) bytes compressed"
