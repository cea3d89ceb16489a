#!/bin/bash
# RocksDB's own tools work on a store: with LD_PRELOAD they know URIs that begin with "untorn://".
set -u
untorn=$(readlink -f "$1") library=$(readlink -f "$2")
cd "$(mktemp -d)" || exit 1
trap 'kill %% 2>/dev/null; rm -rf "$PWD"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
if ! command -v ldb >/dev/null || ! command -v db_bench >/dev/null; then
  echo "SKIPPED: needs ldb and db_bench, from Debian's rocksdb-tools"
  exit 0
fi
fs=untorn://$PWD/s.untorn
run() { LD_PRELOAD=$library "$@"; }
on() { # DATABASE COMMAND...
  run ldb --fs_uri="$fs" --db="$1" "${@:2}" 2>&1
}
same() { [[ $1 == "$2" ]] || fail "$3: '$1', not '$2'"; }

# ---- ldb ----
same "$(on /db --create_if_missing put one 1)" OK put
on /db batchput two 2 three 3 >/dev/null || fail batchput
same "$(on /db get two)" 2 get
same "$(on /db scan)" $'one : 1\nthree : 3\ntwo : 2' scan
same "$(on /db delete one)" OK delete
on /db compact >/dev/null || fail compact
on /db checkconsistency | grep -q OK || fail checkconsistency
on /db checkpoint --checkpoint_dir=/points/1 >told || fail "checkpoint: $(cat told)"
same "$(on /points/1 scan)" $'three : 3\ntwo : 2' "scan of the checkpoint"
on /db backup --backup_fs_uri="$fs" --backup_dir=/backup >told || fail "backup: $(cat told)"
on /restored restore --backup_fs_uri="$fs" --backup_dir=/backup >told || fail "restore: $(cat told)"
same "$(on /restored scan)" $'three : 3\ntwo : 2' "scan of what was restored"
same "$("$untorn" ls s.untorn | grep -c ' db/CURRENT$')" 1 "CURRENT in the store"
[[ ! -e /db && ! -e /points && ! -e /backup ]] || fail "something is beside the store"

# ---- db_bench ----
# bench WORK... : each must end without an error, and what is read is compared by RocksDB's checksums.
bench() {
  run db_bench --fs_uri="$fs" --db=/bench --num=20000 --value_size=400 --write_buffer_size=1000000 \
    --target_file_size_base=1000000 --max_bytes_for_level_base=4000000 --compression_type=none "$@" >told 2>&1 ||
    fail "db_bench $*: $(cat told)"
}
bench --benchmarks=fillrandom,overwrite,readrandom,multireadrandom,seekrandom,compact,verifychecksum --verify_checksum
grep -q '(.* of 20000 found)' told || fail "nothing was read: $(cat told)"
bench --benchmarks=overwrite,readwhilewriting --use_existing_db=1 --threads=4 --sync --num=1000
bench --benchmarks=fillseq,overwrite,readseq --use_direct_reads --use_direct_io_for_flush_and_compaction
bench --benchmarks=overwrite,readrandom --use_existing_db=1 --mmap_read
"$untorn" fsck --quiet --data s.untorn >told 2>&1 || fail "fsck: $(cat told)"

# ---- A second process reads while db_bench writes ----
LD_PRELOAD=$library db_bench --fs_uri="$fs" --db=/bench --benchmarks=overwrite --use_existing_db=1 --num=10000000 \
  >told 2>&1 &
for _ in $(seq 100); do
  grep -q finished told && break
  sleep 0.1
done
run ldb --fs_uri="$fs?mode=ro" --db=/bench scan --max_keys=100 >seen 2>&1 || fail "a second process: $(cat seen)"
same "$(wc -l <seen)" 100 "keys that the second process saw"
on /db get two | grep -q 'open for writing' || fail "a second writer was not refused: $(on /db get two)"
kill -9 %% && wait %% 2>/dev/null
same "$(on /db get two)" 2 "get after a kill"

# ---- What is wrong is told in one line ----
on /none scan >told && fail "a database that is not there was scanned"
fs=untorn://$PWD/none.untorn?store_create=0
on /db scan | grep -q 'none.untorn' || fail "a store that is not there: $(on /db scan)"
fs=untorn://$PWD/s.untorn?size=5
on /db scan | grep -q "the parameters are" || fail "an unknown parameter: $(on /db scan)"
echo "ldb and db_bench work on a store"
