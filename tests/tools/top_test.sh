#!/bin/bash
# `untorn top`, from outside: beside a process that imports an object all the time.
set -u
untorn=$(readlink -f "$1")
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/top.XXXXXX")
holder='' feeder=''
trap 'kill -9 $holder $feeder 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# expect CODE PATTERN ARGUMENTS...: the exit code, and a pattern that stdout or stderr must match.
expect() {
  local code=$1 pattern=$2 actual=0
  shift 2
  "$untorn" "$@" >out 2>err </dev/null || actual=$?
  [[ $actual -eq $code ]] || fail "untorn $*: exit code $actual instead of $code: $(cat err)"
  [[ -z $pattern ]] || grep -qE -- "$pattern" out err || fail "untorn $*: no '$pattern' in: $(cat out err)"
}

# within SECONDS COMMAND...: the command succeeds at last.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

watched() { "$untorn" top s.untorn --once >/dev/null 2>&1; }
gone() { [[ ! -e $1 ]]; }
lines() { [[ -e $1 ]] && (($(wc -l <"$1") >= $2)); }
blocks() { [[ -e $1 ]] && (($(grep -c '^latency' "$1") >= $2)); }

start_holder() {
  rm -f pipe
  mkfifo pipe
  "$untorn" put s.untorn - held --quiet --force <pipe &
  holder=$!
  (while sleep 0.1; do head -c 200000 part; done) >pipe &
  feeder=$!
  within 30 watched || fail "the holder does not open the store"
}

stop_holder() {
  kill -9 "$holder" "$feeder"
  wait "$holder" "$feeder" 2>/dev/null
  holder='' feeder=''
}

head -c 300000 "$untorn" >part
expect 0 '' create s.untorn --size=1G --quiet

echo "== nobody to watch"
expect 1 'untorn: top: s.untorn: no process has the store open for writing' top s.untorn
expect 1 'no process has the store open' top s.untorn --json --once
expect 1 'nowhere' top nowhere
expect 1 'neither a regular file' top .
expect 2 'interval is 0' top s.untorn --interval=0
expect 2 'interval' top s.untorn --interval=often

start_holder
within 30 gone s.untorn.stats || fail "the file stays while nobody watches"

echo "== one block"
expect 0 "process $holder, open for 0:00:" top s.untorn --once
for line in application device commits path dirty cache log space leases latency '  durable call' '  commit' '  device read'; do
  grep -q "^$line " out || fail "no '$line' in: $(cat out)"
done
(($(wc -l <out) <= 24)) || fail "more than 24 lines: $(cat out)"
grep -E '.{81}' out && fail "a line has more than 80 characters"
expect 0 '"commits":[0-9]' top s.untorn --once --json
[[ $(wc -l <out) == 1 ]] || fail "not one line: $(cat out)"
long=$(printf 'long%.0s' {1..30})
mkdir "$long"
expect 0 "^\.\.\.[long]*/../s.untorn  process $holder" top "$long/../s.untorn" --once
grep -E '.{81}' out && fail "a long path makes a line of more than 80 characters"

echo "== the same store by another name"
ln s.untorn other
ln -s s.untorn link
expect 1 'another name' top other --once
expect 0 "process $holder" top link --once
rm other link

echo "== lines, until Ctrl-C"
"$untorn" top s.untorn >blocks 2>blocks.err &
top=$!
within 30 blocks blocks 3 || fail "no three blocks: $(cat blocks blocks.err)"
kill -INT $top
wait $top || fail "Ctrl-C ends top with $?"
grep -q $'\x1b' blocks && fail "control characters in what is no terminal"
[[ -s blocks.err ]] && fail "words on stderr: $(cat blocks.err)"
"$untorn" top s.untorn --json >json.lines &
top=$!
within 30 lines json.lines 3 || fail "no three lines"
kill -INT $top
wait $top || fail "Ctrl-C ends top --json with $?"
python3 - "$holder" json.lines <<'CHECK' || fail "what --json tells is wrong: $(cat json.lines)"
import json, sys
seen = [json.loads(line) for line in open(sys.argv[2])]
for o in seen:
    assert o["store"] == "s.untorn" and o["process"] == int(sys.argv[1])
    assert 0.5 < o["interval_seconds"], o
    assert o["per_second"]["written_bytes"] >= 0 and o["now"]["space_limit_bytes"] == 2**30
    assert set(o["latencies"]) == {"durable_call", "commit", "device_read"}
assert any(o["per_second"]["written_bytes"] > 0 for o in seen)
assert seen[0]["open_seconds"] < seen[1]["open_seconds"] < seen[2]["open_seconds"]
CHECK

echo "== a terminal"
script -qfec "'$untorn' top s.untorn" screen </dev/null >/dev/null &
script=$!
within 30 blocks screen 2 || fail "the view is not redrawn: $(cat screen)"
grep -q $'\x1b\[H' screen || fail "the terminal is not redrawn from its corner"
kill -TERM $script
wait $script 2>/dev/null

echo "== the file"
"$untorn" top s.untorn >/dev/null &
top=$!
within 30 test -e s.untorn.stats || fail "nothing is published"
grep -q "^untorn_process_id{store=\"s.untorn\"} $holder$" s.untorn.stats || fail "not the holder's: $(head -20 s.untorn.stats)"
[[ $(stat -c %a s.untorn.stats) == "$(stat -c %a s.untorn)" ]] || fail "the file has other permissions than the store"
kill -9 $top
wait $top 2>/dev/null
within 30 gone s.untorn.stats || fail "the file stays behind a watcher that was killed"
expect 0 "'untorn top' shows" stats s.untorn
expect 0 '' stats s.untorn --quiet
[[ -s err ]] && fail "--quiet is not quiet"
expect 0 '' stats s.untorn --json
python3 -m json.tool out >/dev/null || fail "no JSON beside a writer"

echo "== the process ends"
"$untorn" top s.untorn >last 2>last.err &
top=$!
within 30 blocks last 1 || fail "no block"
stop_holder
wait $top || fail "top ends with $? when the process does"
grep -q 'has closed it, or has ended' last.err || fail "top does not say why it ends: $(cat last.err)"
[[ -e s.untorn.stats ]] || fail "a process that was killed cannot have removed the file"
expect 1 'no process has the store open' top s.untorn
start_holder
expect 0 "process $holder" top s.untorn --once
stop_holder

[[ $failures -eq 0 ]] || { echo "$failures failures" >&2; exit 1; }
echo "all passed"
