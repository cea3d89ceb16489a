#!/bin/bash
# Shells read a database, with mode=ro, while another process writes it: each sees whole transactions, and all that was
# committed a second before. The writer is killed in between (promises 2, 3 and 10).
set -u
untorn=$(readlink -f "$1") extension=$(readlink -f "$2")
cd "$(mktemp -d)" || exit 1
trap 'end; rm -rf "$PWD"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
writer='' feeder=''
run=''  # or exec, so that what is killed is the shell itself
"$untorn" create --quiet s.untorn --size=64M || fail create
# on_untorn PARAMETERS ARGUMENTS...
on_untorn() {
  local parameters=$1
  shift
  $run sqlite3 -bail -cmd ".load $extension" -cmd ".open 'file:app.db?vfs=untorn&store=$PWD/s.untorn$parameters'" :memory: "$@"
}
on_untorn '' "CREATE TABLE t(x INTEGER PRIMARY KEY, y, z); CREATE INDEX i ON t(y)" || fail fill

# Each transaction adds a row and its opposite, and tells the number of rows when it is committed.
writes() {
  local i
  for ((i = 0; ; ++i)); do
    echo "BEGIN; INSERT INTO t(y, z) VALUES ($i, hex(randomblob(500))); INSERT INTO t(y, z) VALUES (-$i, hex(randomblob(500)));"
    echo "UPDATE t SET z = hex(randomblob(500)) WHERE x % 50 = $((i % 50)); COMMIT; SELECT count(*) FROM t;"
  done
}
begin() {
  run=exec on_untorn '' <statements >>told 2>>wrong &
  writer=$!
  writes >statements 2>/dev/null &
  feeder=$!
}
end() {
  kill -9 $writer $feeder 2>/dev/null
  wait $writer $feeder 2>/dev/null
}
mkfifo statements || fail mkfifo
begin
reads=0 newest=0 ended=$((SECONDS + 12))
while ((SECONDS < ended)); do
  told_before=$(tail -n 1 told 2>/dev/null)
  sleep 1.1
  seen=$(on_untorn '&mode=ro' "PRAGMA integrity_check; SELECT sum(y), count(*) % 2, count(*) FROM t" 2>&1)
  if [[ $seen != "ok"* ]]; then
    # Beside a writer that was killed a moment ago, or that waits for a reader.
    [[ $seen =~ "locked"|"unable to open" ]] || fail "a reader: $seen"
    continue
  fi
  IFS='|' read -r sum odd count <<<"${seen#ok$'\n'}"
  [[ $sum$odd == 00 || $sum$odd == 0 ]] || fail "a part of a transaction: $seen"
  ((count >= ${told_before:-0})) || fail "$count rows, of the $told_before that were committed"
  ((++reads))
  newest=$count
  if ((reads % 4 == 0)); then
    end
    begin
  fi
done
end
grep -v 'database is locked\|unable to open' wrong | grep -q . && fail "the writer: $(head -3 wrong)"
((reads >= 5 && newest > 100)) || fail "$reads reads, the last of $newest rows"
# One connection that stays sees what is committed meanwhile, and no other page of its cache is of an older state.
begin
sleep 0.5
for i in 1 2 3 4; do
  echo "SELECT count(*), sum(y), count(DISTINCT x) FROM t;"
  sleep 1.2
done | on_untorn '&mode=ro' >stays 2>&1
end
IFS='|' read -r first sum distinct < <(head -n 1 stays)
IFS='|' read -r last sum distinct < <(tail -n 1 stays)
((last > first && sum == 0 && distinct == last && $(wc -l <stays) == 4)) || fail "a connection that stays: $(cat stays)"
# Who wants to write is told.
begin
sleep 0.5
refused=$(on_untorn '' "INSERT INTO t(y) VALUES (1)" 2>&1) && fail "two processes write"
[[ $refused == *"open for writing by process"* || $refused == *"unable to open"* ]] || fail "a second writer: $refused"
end
"$untorn" fsck s.untorn --data >found || fail "fsck: $(cat found)"
echo "$reads reads, the last of $newest rows"
