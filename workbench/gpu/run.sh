#!/usr/bin/env bash
# Tests Roundhouse on a machine with an NVIDIA GPU and no Go, out of the bundle
# that `make gpu-bundle` packed. Every test is a process of its own; one table at
# the end, exit status 1 when any failed.
#
#   workbench/gpu/run.sh [set ...]        default: driver kernels parity engine cli
#
#   driver kernels parity engine   tests of engine/cuda/driver, engine/cuda,
#                                  engine/parity, and those of engine for a GPU
#   cli                            the program loses its device while it works
#   sanitizer                      memcheck and racecheck over three tests
#   bench                          the figures of a model made up on the device
#   hooks                          what hooks add to its decode step
#   load                           a model folder in memory, served twice
#   real                           four layers of real dimensions, made up: the device
#                                  beside the CPU, and the set engine with them
#
# Needs bash 5, tar, xz and coreutils. Environment:
#
#   ROUNDHOUSE_GPU   1: the device (default); 0: tests and load on the CPU
#   OUT              folder for what comes out: summary.txt with the table,
#                    results.tsv as it grows, logs.tar.xz, bench.json,
#                    hooks.json (dist/gpu/out)
#   JOBS             tests of driver, kernels and parity at a time (4)
#   LIMIT            seconds that a test may take (300)
#   SHAPE            model of bench, hooks and load (qwen3-next-80b)
#   MODELS           where load and real write their folders, 44 and 6 GB (/dev/shm)
#   ROUNDHOUSE_SOAK  how long streams come and go in the set engine (20s)
#   BUNDLE           where the bundle lies (dist/gpu)
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
export ROUNDHOUSE_GPU=${ROUNDHOUSE_GPU:-1} LC_ALL=C
bundle=${BUNDLE:-dist/gpu} jobs=${JOBS:-4} limit=${LIMIT:-300}
shape=${SHAPE:-qwen3-next-80b} models=${MODELS:-/dev/shm}
mkdir -p "${OUT:=dist/gpu/out}"
out=$(cd "$OUT" && pwd)
device=cuda
[[ $ROUNDHOUSE_GPU == 1 ]] || device=cpu

declare -A folder=([driver]=engine/cuda/driver [kernels]=engine/cuda [parity]=engine/parity [engine]=engine [cli]=workbench/cmd/roundhouse)
declare -A only=([engine]='GPU|OnDevice' [cli]='Lose(s|Their|Its).*Device') # of the set's tests, those whose names match
# These wait longest for references on the CPU: they begin first.
slow='TestPrefillLinear|TestManyDrawsAgree|TestGoldensOnFakeDriver|TestGoldensShared'

die() {
  echo "gpu: $*" >&2
  exit 2
}
(($#)) || set -- driver kernels parity engine cli
for set in "$@"; do
  [[ -v folder[$set] || $set =~ ^(sanitizer|bench|hooks|load|real)$ ]] || die "no set is called $set: driver, kernels, parity, engine, cli, sanitizer, bench, hooks, load or real"
done

work=$(mktemp -d) server='' weights=''
cleanup() {
  [[ -z $server ]] || kill "$server" 2>/dev/null
  rm -rf "$work" ${weights:+"$weights"}
}
trap cleanup EXIT
trap 'report; exit 130' INT TERM
mkdir "$work/logs"
tar -xJf "$bundle/bundle.tar.xz" -C "$work" || die "$bundle/bundle.tar.xz is missing or broken: run make gpu-bundle where Go is"
bin=$work/bundle
if [[ -f $bundle/shared.tar.xz ]]; then
  tar -xJf "$bundle/shared.tar.xz" -C "$work" || die "$bundle/shared.tar.xz is broken: run make gpu-bundle SHARED=1 again"
  ln -s "$root" "$work/tree" # where its links point
  export ROUNDHOUSE_SHARED=$work/shared
fi

now() { # milliseconds
  local micros=${EPOCHREALTIME/./}
  echo $((micros / 1000))
}

# record SET TEST RESULT MILLISECONDS [NOTE]: a row of the table.
record() {
  local note
  note=$(tr -s '[:space:]' ' ' <<<"${5:-}")
  note=${note# } note=${note% }
  printf '%s\t%s\t%s\t%d.%d\t%.160s\n' "$1" "$2" "$3" $(($4 / 1000)) $(($4 % 1000 / 100)) "$note" >>"$out/results.tsv"
}

# complaint LOG: the line that says what went wrong. Of a test it is what was said
# last before the first failure: lines that only tell come before it.
complaint() {
  grep -m1 -aE '^(panic|fatal error|roundhouse):|level=ERROR' "$1" && return
  awk '/^ *[a-z0-9_]+\.go:[0-9]+: / { said = $0 } /^ *--- FAIL: / && said { exit } { last = $0 } END { print said ? said : last }' "$1"
}

# tool LOG COMMAND...: a command that ends in time, whose output is a log.
tool() {
  local log=$1
  shift
  timeout --foreground --kill-after=10 $((limit + 10)) "$@" >"$log" 2>&1 </dev/null
}

# one SET TEST: runs one test.
one() {
  local set=$1 test=$2 log=$work/logs/$1-$2.log start code skipped
  start=$(now)
  # test2json has subtests say that they failed at once, not behind all others.
  (cd "${folder[$set]}" && tool "$log" "$bin/$set.test" -test.v=test2json -test.timeout "${limit}s" -test.run "^$test\$")
  code=$?
  sed -i 's/^\x16//' "$log"
  if ((code)); then
    record "$set" "$test" FAIL $(($(now) - start)) "$(complaint "$log")"
  elif grep -qa "^--- SKIP: $test " "$log"; then
    record "$set" "$test" SKIP $(($(now) - start)) "$(complaint "$log")"
  else
    skipped=$(grep -ca '^ *--- SKIP: ' "$log")
    ((skipped)) && skipped="subtests skipped: $skipped" || skipped=''
    record "$set" "$test" PASS $(($(now) - start)) "$skipped"
  fi
}

# tests SET: its tests, a line each.
tests() {
  local names
  names=$(cd "${folder[$1]}" && "$bin/$1.test" -test.list "${only[$1]:-.}" | grep '^Test')
  [[ -n $names ]] || record "$1" - SKIP 0 "no test's name matches ${only[$1]:-Test}"
  sed -n "s/^Test/$1 &/p" <<<"$names"
}

# pool N: runs the tests of standard input, N at a time.
pool() {
  local set test
  while read -r set test; do
    while (($(jobs -rp | wc -l) >= $1)); do wait -n; done
    one "$set" "$test" &
  done
  wait
}

sanitizer() {
  local checker log name start check test
  checker=$(PATH=$PATH:/usr/local/cuda/bin type -P compute-sanitizer)
  if [[ -z $checker || $device == cpu ]]; then
    record sanitizer - SKIP 0 "needs a GPU, and compute-sanitizer on PATH or in /usr/local/cuda/bin"
    return
  fi
  for check in memcheck racecheck; do
    set -- --tool "$check" --error-exitcode 99
    # A kernel's parameters are counted by asking until the driver refuses: no error of ours.
    [[ $check == racecheck ]] || set -- "$@" --report-api-errors no
    for test in '^TestAttentionDecode$/8' '^TestDeltaNetMatches' '^TestExperts$/^small$'; do
      name=$check-$(tr -cd '[:alnum:]' <<<"$test") start=$(now)
      log=$work/logs/sanitizer-$name.log
      if (cd "${folder[kernels]}" && tool "$log" "$checker" "$@" "$bin/kernels.test" -test.v -test.run "$test") &&
        grep -qaE 'SUMMARY: 0 (errors|hazards)' "$log"; then
        record sanitizer "$name" PASS $(($(now) - start))
      elif grep -qai 'device not supported' "$log"; then
        record sanitizer "$name" SKIP $(($(now) - start)) "compute-sanitizer does not support this device here"
      else
        record sanitizer "$name" FAIL $(($(now) - start)) "$(grep -m1 -aE 'SUMMARY: [1-9]' "$log" || complaint "$log")"
      fi
    done
  done
}

# figure WHAT PROMPT STREAMS BOUND: a row of bench.json, in tokens a second, and what
# one H200 must reach.
figure() {
  local rate verdict=FAIL
  rate=$(tr -d ' \n' <"$out/bench.json" |
    sed -nE "s/.*\"what\":\"$1\",\"prompt\":$2,\"streams\":$3,\"runs\":[0-9]+,\"tokens_per_second\":([0-9]+).*/\1/p")
  ((${rate:-0} >= $4)) && verdict=PASS
  record bench "$1, $3 streams, after $2" "$verdict" 0 "${rate:-no} tok/s, bound $4"
}

bench() {
  local log=$work/logs/bench.log start
  if [[ $device == cpu ]]; then
    record bench "$shape" SKIP 0 "weights are made up on a GPU only"
    return
  fi
  start=$(now)
  if timeout --foreground --kill-after=10 600 "$bin/roundhouse" bench --json --device "$device" --synthetic "$shape" --ctx 4096 --chunk 2048 \
    --lengths 1024,2048 --batches 1,8,32 --tokens 64 --time 1s >"$out/bench.json" 2>"$log"; then
    record bench "$shape" PASS $(($(now) - start)) bench.json
    [[ $shape == qwen3-next-80b ]] || return
    figure decode 1024 1 300
    figure decode 1024 8 800
    figure decode 1024 32 1400
    figure prefill 2048 1 6000
  else
    rm -f "$out/bench.json"
    record bench "$shape" FAIL $(($(now) - start)) "$(complaint "$log")"
  fi
}

# cost HOOK STREAMS BOUND [BY]: what a script of hooks.json adds to a decode step, in percent
# of it; no bound where it is -. Spaces are left out of the name.
cost() {
  local percent verdict=PASS note
  percent=$(tr -d ' \n' <"$out/hooks.json" |
    sed -nE "s/.*\"hook\":\"$1\",\"by\":\"${4:-script}\",\"streams\":$2,[^}]*\"cost_percent\":(-?[0-9.e+-]+).*/\1/p")
  note=$(awk -v percent="${percent:-none}" -v bound="$3" 'BEGIN {
    if (percent == "none") { print "no figure"; exit 1 }
    printf "%.2f %% of the step, bound %s", percent, bound
    exit bound != "-" && percent > bound + 0 }') || verdict=FAIL
  record hooks "$1, $2 streams" "$verdict" 0 "$note"
}

hooks() {
  local log=$work/logs/hooks.log start streams
  if [[ $device == cpu ]]; then
    record hooks "$shape" SKIP 0 "weights are made up on a GPU only"
    return
  fi
  start=$(now)
  if timeout --foreground --kill-after=10 600 "$bin/roundhouse" bench --hooks --json --device "$device" --synthetic "$shape" --ctx 4096 \
    --lengths 1024 --batches 1,8 --tokens 64 --time 2s >"$out/hooks.json" 2>"$log"; then
    record hooks "$shape" PASS $(($(now) - start)) hooks.json
    for streams in 1 8; do
      for hook in empty editsonly observerouting steereverytoken steeronce; do cost "$hook" "$streams" 1; done
      cost 20pageslookon "$streams" 1 live
      for hook in 50candidates 256candidates samplerof50; do cost "$hook" "$streams" $( ((streams == 1)) && echo 5 || echo -); done
    done
  else
    rm -f "$out/hooks.json"
    record hooks "$shape" FAIL $(($(now) - start)) "$(complaint "$log")"
  fi
}

# ready URL: asks /health with bash alone.
ready() {
  local host=${1#http://} status=''
  exec 3<>"/dev/tcp/${host%:*}/${host#*:}" || return 1
  printf 'GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$host" >&3
  read -r status <&3
  exec 3>&-
  [[ $status == *" 200 "* ]]
}

# room FOLDER: GiB that fit into it. What lies in memory must fit there too, or the
# system ends programs to make room.
room() {
  local free memory
  free=$(($(df -Pk "$1" | awk 'NR == 2 { print $4 }') >> 20))
  memory=$(($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) >> 20))
  if [[ $(stat -f -c %T "$1") == tmpfs ]] && ((memory < free)); then free=$memory; fi
  echo "$free"
}

# write SET GIB FLAG...: writes a made-up model into $weights, with so much room to work.
write() {
  local set=$1 need=$2 log=$work/logs/$1-write.log free start
  shift 2
  free=$(room "$models")
  if ((free < need)); then
    record "$set" write SKIP 0 "the model takes $need GiB with room to work and $models has $free: set MODELS to another folder"
    return 1
  fi
  weights=$(mktemp -d "$models/roundhouse-$set-XXXXXX") || die "cannot write to $models: set MODELS"
  start=$(now)
  if ! tool "$log" "$bin/roundhouse" synth "$@" "$weights"; then
    record "$set" write FAIL $(($(now) - start)) "$(complaint "$log")"
    unwrite
    return 1
  fi
  # The bundle's program has no demo model to take a tokenizer from.
  cp workbench/demo/model/{tokenizer.json,tokenizer_config.json,chat_template.jinja,generation_config.json} "$weights"
  record "$set" write PASS $(($(now) - start)) "$(du -sh "$weights" | cut -f1)"
}

unwrite() {
  rm -rf "$weights"
  weights=''
}

real() {
  write real 6 --shape qwen3-next-80b --layers 4 || return
  export ROUNDHOUSE_REAL4=$weights
  one parity TestRealDimensions
  tests engine | pool 1
  unset ROUNDHOUSE_REAL4
  unwrite
}

# Loading has a bound of 6 seconds, from the program's start until requests are served.
load() {
  local log start took run peak verdict bound=6000 need=1
  [[ $shape != qwen3-next-80b ]] || need=48
  write load $need --shape "$shape" || return
  for run in 1 2; do
    log=$work/logs/load-start-$run.log start=$(now)
    "$bin/roundhouse" serve "$weights" --device "$device" --listen 127.0.0.1:0 >"$work/url" 2>"$log" </dev/null &
    server=$!
    until { [[ -s $work/url ]] && ready "$(<"$work/url")"; } 2>/dev/null; do
      if ! kill -0 "$server" 2>/dev/null || (($(now) - start > limit * 1000)); then break; fi
      sleep 0.02
    done
    took=$(($(now) - start))
    peak=$(grep -hE '^(VmHWM|RssAnon)' "/proc/$server/status" 2>/dev/null) # before it ends
    if ! kill "$server" 2>/dev/null || ! wait "$server"; then
      record load "start $run" FAIL "$took" "$(complaint "$log")"
    else
      verdict=PASS
      ((took <= bound)) || verdict=FAIL
      record load "start $run" "$verdict" "$took" "bound $((bound / 1000)) s; $peak"
    fi
    server=''
  done
  unwrite
}

# report prints the table of all rows.
report() {
  passed=$(grep -c $'\tPASS\t' "$out/results.tsv") failed=$(grep -c $'\tFAIL\t' "$out/results.tsv") skipped=$(grep -c $'\tSKIP\t' "$out/results.tsv")
  {
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null
    "$bin/roundhouse" version
    echo
    printf '%-9s %-46s %-6s %7s  %s\n' set test result seconds note
    sort -t $'\t' -k1,2 "$out/results.tsv" | while IFS=$'\t' read -r set test result seconds note; do
      printf '%-9s %-46s %-6s %7s  %s\n' "$set" "$test" "$result" "$seconds" "$note"
    done
    printf '\n%d passed, %d failed, %d skipped in %d s\n' "$passed" "$failed" "$skipped" $((($(now) - begin) / 1000))
  } | tee "$out/summary.txt"
  XZ_OPT=-1 tar -cJf "$out/logs.tar.xz" -C "$work" logs
}

begin=$(now)
: >"$out/results.tsv"
for set in "$@"; do
  [[ $set =~ ^(driver|kernels|parity)$ ]] && tests "$set"
done | sort -s -k2,2 >"$work/tests"
{ grep -E " ($slow)\$" "$work/tests"; grep -vE " ($slow)\$" "$work/tests"; } | pool "$jobs"
for set in "$@"; do
  case $set in
    engine | cli) tests "$set" | pool 1 ;;
    sanitizer | bench | hooks | load | real) "$set" ;;
  esac
done

report
((failed == 0))
