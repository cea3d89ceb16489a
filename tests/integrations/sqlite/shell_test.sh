#!/bin/bash
# The stock shell with the extension: the same script as on the default VFS prints the same; what a killed one had
# committed is there, in all databases or in none; why a store cannot be opened is told.
set -u
untorn=$(readlink -f "$1") extension=$(readlink -f "$2") script=$(readlink -f "$3")
cd "$(mktemp -d)" || exit 1
trap 'kill %% 2>/dev/null; rm -rf "$PWD"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

"$untorn" create --quiet s.untorn --size=1G || fail create
run=''
uri() { echo "file:$1?vfs=untorn&store=$PWD/s.untorn"; }
# on_untorn DATABASE ARGUMENTS...: the shell on that database.
on_untorn() {
  local database=$1
  shift
  $run sqlite3 -cmd ".load $extension" -cmd ".open '$(uri "$database")'" :memory: "$@"
}

# ---- The same output ----
sqlite3 plain.db <"$script" >plain.txt 2>&1
on_untorn app.db <"$script" >untorn.txt 2>&1
[[ $(wc -l <plain.txt) -gt 100 ]] || fail "the script printed little: $(cat plain.txt)"
diff plain.txt untorn.txt >difference.txt || fail "another output: $(head -20 difference.txt)"
[[ $("$untorn" ls s.untorn | wc -l) == 1 ]] || fail "more than the database is in the store: $("$untorn" ls s.untorn)"

# ---- In and out ----
values="SELECT count(*), sum(x) FROM t"
fill="CREATE TABLE t(x, y); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
  INSERT INTO t SELECT i, hex(randomblob(100)) FROM n;"
sqlite3 whole.db "$fill"
"$untorn" put --quiet s.untorn whole.db || fail "put"
"$untorn" get --quiet s.untorn whole.db back.db && cmp whole.db back.db || fail "put and get"
[[ $(on_untorn whole.db "$values") == "$(sqlite3 whole.db "$values")" ]] || fail "what was put reads as something else"
on_untorn whole.db "UPDATE t SET x = x + 1" && "$untorn" get --quiet --force s.untorn whole.db back.db || fail "get"
[[ $(sqlite3 back.db "PRAGMA integrity_check; $values") == "ok
3000|4504500" ]] || fail "what was got is something else"

# refused FILE PATTERN: that put refuses it, and that it is right after the command that the message tells.
refused() {
  local message settle
  message=$("$untorn" put s.untorn "$1" 2>&1) && fail "put takes $1"
  [[ $message =~ $2 ]] || fail "put of $1: $message"
  settle=$(grep -o "sqlite3 [^ ]*/$1 '.*'" <<<"$message")
  bash -c "$settle" >/dev/null || fail "$settle"
  "$untorn" put --quiet s.untorn "$1" || fail "put of $1 after $settle"
  [[ $(on_untorn "$1" "PRAGMA integrity_check; $values") == "ok
3000|4501500" ]] || fail "$1 after $settle: $(on_untorn "$1" "PRAGMA integrity_check; $values")"
}
sqlite3 open.db "$fill" "PRAGMA cache_size=5" "BEGIN; UPDATE t SET x = 0" \
  ".shell cp open.db hot.db; cp open.db-journal hot.db-journal"
mkdir elsewhere && ln -s ../hot.db elsewhere/link.db
"$untorn" put s.untorn elsewhere/link.db 2>/dev/null && fail "put takes hot.db through a link"
refused hot.db "cut short.*hot.db-journal"
sqlite3 open.db "PRAGMA journal_mode=WAL" "UPDATE t SET x = 1" "UPDATE t SET x = rowid" \
  ".shell cp open.db wal.db; cp open.db-wal wal.db-wal" >/dev/null
refused wal.db "write-ahead log.*wal.db-wal"
sqlite3 open.db "PRAGMA journal_mode=WAL" "UPDATE t SET x = 1" ".shell cp open.db-wal back.db-wal" >/dev/null
message=$(sqlite3 open.db "PRAGMA journal_mode=DELETE" "BEGIN EXCLUSIVE" ".shell '$untorn' put s.untorn open.db" 2>&1)
[[ $message == *"being written to by SQLite"* ]] || fail "put of a file that is locked: $message"
message=$("$untorn" get --force s.untorn whole.db back.db 2>&1) && fail "get beside a write-ahead log"
[[ $message == *"back.db-wal"* ]] || fail "get: $message"

# ---- Killed ----
on_untorn one.db "CREATE TABLE n(n); INSERT INTO n VALUES (0); CREATE TABLE log(n, filler)" || fail "one.db"
on_untorn two.db "CREATE TABLE n(n); INSERT INTO n VALUES (0); CREATE TABLE log(n, filler)" || fail "two.db"
transaction="BEGIN;
UPDATE one.n SET n = n + 1;
INSERT INTO one.log SELECT n, hex(randomblob(9000)) FROM one.n;
UPDATE one.log SET filler = filler || 'x' WHERE n % 7 = abs(random() % 7);
UPDATE two.n SET n = n + 1;
INSERT INTO two.log SELECT n, hex(randomblob(3000)) FROM two.n;
COMMIT;
SELECT n FROM one.n;"
{
  echo "ATTACH '$(uri one.db)' AS one; ATTACH '$(uri two.db)' AS two; PRAGMA one.cache_size=20;"
  for ((i = 0; i < 20000; ++i)); do echo "$transaction"; done
} >endless.sql
for round in 1 2 3 4 5 6; do
  : >told.txt
  (run=exec && on_untorn app.db <endless.sql >told.txt 2>errors.txt) &
  sleep "0.$((RANDOM % 7 + 3))"
  kill -9 %%
  wait %% 2>/dev/null
  [[ -s errors.txt ]] && fail "round $round: $(cat errors.txt)"
  told=$(tail -n +1 told.txt | grep -E '^[0-9]+$' | tail -1)
  for database in one.db two.db; do
    state=$(on_untorn "$database" "PRAGMA integrity_check; SELECT n FROM n; SELECT count(*) FROM log" | paste -sd' ')
    read -r ok n logged <<<"$state"
    [[ $ok == ok && $n == "$logged" && $n -ge ${told:-0} ]] || fail "round $round: $database: $state, told $told"
    [[ $database == one.db ]] && first=$n
    [[ $n == "$first" ]] || fail "round $round: $first transactions in one.db, $n in two.db"
  done
done
[[ $first -gt 0 ]] || fail "nothing was ever committed"
"$untorn" ls s.untorn | grep -E -- '-(journal|wal|mj[0-9A-F]+)( |$)' && fail "a journal is in the store"
"$untorn" fsck --quiet s.untorn || fail "fsck"

# ---- Killed beside a database on the file system ----
# Each transaction locks both and changes one. SQLite's own journal names a super-journal beside the store.
sqlite3 plain2.db "CREATE TABLE log(n INTEGER PRIMARY KEY, filler)"
on_untorn beside.db "CREATE TABLE log(n INTEGER PRIMARY KEY, filler)" || fail "beside.db"
{
  echo "ATTACH 'file:$PWD/plain2.db?vfs=unix' AS plain;"
  echo "PRAGMA plain.cache_size=5; PRAGMA main.cache_size=5;"
  for ((i = 0; i < 20000; ++i)); do
    for schema in main plain; do
      echo "BEGIN IMMEDIATE;
INSERT INTO $schema.log(filler) SELECT hex(randomblob(20000));
UPDATE $schema.log SET filler = filler || 'x' WHERE n % 7 = abs(random() % 7);
COMMIT;
SELECT '$schema', max(n) FROM $schema.log;"
    done
  done
} >beside.sql
for round in 1 2 3 4; do
  (run=exec && on_untorn beside.db <beside.sql >told.txt 2>errors.txt) &
  sleep "0.$((RANDOM % 7 + 3))"
  kill -9 %%
  wait %% 2>/dev/null
  [[ -s errors.txt ]] && fail "beside, round $round: $(cat errors.txt)"
  for schema in main plain; do
    told=$(grep -E "^$schema\|[0-9]+$" told.txt | tail -1 | cut -d'|' -f2)
    check="PRAGMA integrity_check; SELECT max(n) = count(*), max(n) FROM log"
    if [[ $schema == main ]]; then state=$(on_untorn beside.db "$check"); else state=$(sqlite3 plain2.db "$check"); fi
    [[ $state == "ok"*"1|"* && ${state##*|} -ge ${told:-0} ]] || fail "beside, round $round: $schema: $state, told $told"
  done
done
[[ -n $told ]] || fail "nothing was committed beside the store"

# ---- The default VFS, and programs that take no URI ----
UNTORN_STORE=$PWD/named.untorn sqlite3 -cmd ".load ${extension%.so}_default" -cmd ".open byname.db" :memory: \
  "CREATE TABLE t(x); INSERT INTO t VALUES (1)" || fail "the default VFS"
[[ ! -e byname.db && $("$untorn" ls named.untorn | tail -1) == *byname.db* ]] || fail "byname.db is not in the store"
preloaded() { UNTORN_STORE=$PWD/named.untorn LD_PRELOAD="${extension%.so}_preload.so" "$@"; }
[[ $(preloaded sqlite3 byname.db "SELECT x FROM t") == 1 ]] || fail "a shell with LD_PRELOAD"
[[ $(preloaded sqlite3 ./x/../byname.db "SELECT x FROM t") == 1 ]] || fail "another path to the same database"
message=$(sqlite3 -cmd ".load ${extension%.so}_default" -cmd ".open byname.db" :memory: "SELECT 1" 2>&1)
[[ $message == *"set UNTORN_STORE"* ]] || fail "of a database without a store: $message"
[[ $(LD_PRELOAD="${extension%.so}_preload.so" sqlite3 plain.db "SELECT count(*) > 0 FROM sqlite_schema") == 1 ]] ||
  fail "a shell with LD_PRELOAD and without UNTORN_STORE"

# ---- Open elsewhere ----
mkfifo pipe
(run=exec && on_untorn app.db <pipe >/dev/null) &
exec 3>pipe
printf 'SELECT count(*) FROM sqlite_schema;\n.shell touch opened\n' >&3
for ((i = 0; i < 300; ++i)); do
  [[ -e opened ]] && break
  sleep 0.1
done
locked=$(on_untorn app.db "SELECT 1" 2>&1)
[[ $locked == *"open for writing by process $!"* ]] || fail "of a store that is open elsewhere: $locked"
exec 3>&-
wait %% || fail "the one that had it open"
echo "first: $first transactions"
