#!/bin/bash
# RocksDB is killed while four threads write with sync, and while it flushes and compacts. Each time what was acknowledged is
# there, and no batch by half (promises 3 and 6).
set -u
untorn=$(readlink -f "$1") writer=$(readlink -f "$2")
cd "$(mktemp -d)" || exit 1
trap 'kill %% 2>/dev/null; rm -rf "$PWD"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
TEST_SEED=${TEST_SEED:-$((10#$(date +%N) % 100000))}
RANDOM=$TEST_SEED
echo "TEST_SEED=$TEST_SEED"

"$untorn" create --quiet s.untorn --size=1G || fail create
: >acks
for round in $(seq 1 15); do
  "$writer" write "untorn://$PWD/s.untorn" >>acks 2>told &
  sleep "$((RANDOM % 2)).$((RANDOM % 80 + 10))"
  kill -9 %% 2>/dev/null
  wait %% 2>/dev/null
  grep -v Killed told | grep -q . && fail "round $round: $(cat told)"
  "$writer" check "untorn://$PWD/s.untorn" acks >found 2>&1 || fail "round $round: $(cat found)"
  "$untorn" fsck --quiet --data s.untorn >found 2>&1 || fail "round $round: fsck: $(cat found)"
done
[[ $(wc -l <acks) -gt 1000 ]] || fail "only $(wc -l <acks) writes in 15 rounds"
echo "$(wc -l <acks) writes acknowledged in 15 rounds, none lost"
