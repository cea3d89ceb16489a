#!/bin/bash
# The stock shell is killed in what writes most of a database at once: VACUUM to another page size, and a transaction of
# 100 MB that does not fit SQLite's cache. Afterwards the database is as before, or as it was to be (promise 6).
set -u
untorn=$(readlink -f "$1") extension=$(readlink -f "$2")
cd "$(mktemp -d)" || exit 1
trap 'kill %% 2>/dev/null; rm -rf "$PWD"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
TEST_SEED=${TEST_SEED:-$((10#$(date +%N) % 100000))}
RANDOM=$TEST_SEED
echo "TEST_SEED=$TEST_SEED"
# SQLite looks for a folder for its temporary files elsewhere then.
export SQLITE_TMPDIR=$PWD/missing

"$untorn" create --quiet s.untorn --size=1G || fail create
run=''  # or exec, so that what is killed is the shell itself
on_untorn() {
  $run sqlite3 -cmd ".load $extension" -cmd ".open 'file:app.db?vfs=untorn&store=$PWD/s.untorn'" :memory: "$@"
}
killed() { # SECONDS SQL: is killed after that time, if it still runs
  run=exec on_untorn "$2" >told 2>&1 &
  sleep "$1"
  kill -9 %% 2>/dev/null
  wait %% 2>/dev/null
  grep -v Killed told | grep -q . && fail "$2: $(cat told)"
}
rows() { # FIRST LAST BYTES
  echo "WITH RECURSIVE n(i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
    INSERT INTO t SELECT i, randomblob($3) FROM n;"
}
values="SELECT count(*), sum(x), sum(unicode(substr(hex(y), 1 + x % 100, 1)) * x) FROM t"
sound() { [[ $(on_untorn "PRAGMA integrity_check") == ok ]] || fail "$1: the database is damaged"; }

# ---- Another page size ----
on_untorn "CREATE TABLE t(x INTEGER PRIMARY KEY, y); CREATE INDEX i ON t(y); $(rows 1 20000 200)" || fail fill
expected=$(on_untorn "$values") size=4096 changed=0
for round in 0 1 2 3 4 5 6 7 8 9 10 11; do
  sizes=(512 65536 1024 4096)
  next=${sizes[round % 4]}
  killed "0.$((RANDOM % 40 + 10))" "PRAGMA page_size = $next; VACUUM;"
  found=$(on_untorn "PRAGMA page_size")
  [[ $found == "$size" || $found == "$next" ]] || fail "pages of $found bytes, where $size or $next were to be"
  [[ $found == "$size" ]] || ((++changed))
  size=$found
  sound "page size $next"
  [[ $(on_untorn "$values") == "$expected" ]] || fail "page size $next: other rows"
done
for next in 512 65536 1024 4096; do
  on_untorn "PRAGMA page_size = $next; VACUUM;" || fail "page size $next"
  [[ $(on_untorn "PRAGMA page_size; $values") == "$next
$expected" ]] || fail "page size $next, without a kill"
done

# ---- A large transaction ----
first=20001 whole=0
large="PRAGMA cache_size = -2000; BEGIN; $(rows $first $((first + 9999)) 10000) COMMIT;"
began=$(date +%s%N)
on_untorn "$large" || fail "100 MB"
took_ms=$((($(date +%s%N) - began) / 1000000))
on_untorn "DELETE FROM t WHERE x >= $first" || fail delete
for round in 1 2 3; do
  ms=$((took_ms * (70 + RANDOM % 50) / 100))
  killed "$((ms / 1000)).$(printf %03d $((ms % 1000)))" "$large"
  sound "100 MB"
  count=$(on_untorn "SELECT count(*) FROM t WHERE x >= $first")
  [[ $count == 0 || $count == 10000 ]] || fail "$count rows of a transaction of 10000"
  [[ $count == 0 ]] && continue
  ((++whole))
  on_untorn "DELETE FROM t WHERE x >= $first" || fail delete
done
[[ $(on_untorn "$values") == "$expected" ]] || fail "other rows after large transactions"
"$untorn" fsck --quiet --data s.untorn >found || fail "fsck: $(cat found)"
echo "page sizes: $changed of 12 changed before the kill; large transactions: $whole of 3 were whole"
