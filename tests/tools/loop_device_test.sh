#!/bin/bash
# A store on a block device: a loop device, where the system lets us have one. surroundings_test.sh has devices with large
# sectors, and such that cannot be written.
set -u
untorn=$(readlink -f "$1")
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/loop.XXXXXX")
device=
cleanup() {
  [[ -z $device ]] || losetup -d "$device"
  rm -rf "$work"
}
trap cleanup EXIT

die() {
  echo "FAILED: $*" >&2
  exit 1
}

# Says so in the test's results, so that it is not counted as passed.
skip() {
  echo "skipped: $1"
  [[ -z ${XML_OUTPUT_FILE:-} ]] || cat >"$XML_OUTPUT_FILE" <<END
<testsuites><testsuite name="loop_device_test"><testcase name="loop_device_test" result="skipped"/></testsuite></testsuites>
END
  exit 0
}

[[ $(id -u) -eq 0 ]] || skip "loop devices need root"
truncate -s 64M "$work/disk"
if ! device=$(losetup --find --show "$work/disk" 2>"$work/error"); then
  device=
  skip "$(cat "$work/error")"
fi

echo "== on an empty device"
"$untorn" create "$device" || die "create"
"$untorn" info "$device" || die "info"
head -c 5000001 "$untorn" >"$work/data"
"$untorn" put "$device" "$work/data" || die "put"
"$untorn" get "$device" data "$work/out" || die "get"
cmp "$work/data" "$work/out" || die "round trip"
"$untorn" fsck "$device" || die "fsck"

echo "== on a store"
"$untorn" create "$device" && die "a store was overwritten without --force"
"$untorn" get "$device" data - 2>/dev/null | cmp - "$work/data" || die "a refused create changed the store"
echo "== on a store that this version cannot open"
for slot in 0 8; do
  printf '\x99' | dd of="$device" bs=1 seek=$((slot * 4096 + 100)) conv=notrunc,fsync status=none
done
"$untorn" create "$device" 2>"$work/error" && die "a damaged store was overwritten without --force"
grep -q 'untorn store' "$work/error" || die "the message does not say what is there: $(cat "$work/error")"
"$untorn" create "$device" --force --size=32M || die "create --force"
"$untorn" ls "$device" || die "ls"

echo "== on a file system"
if ! mkfs=$(command -v mkfs.ext4 || command -v mkfs.ext2 || command -v mkswap); then
  die "no mkfs.ext4, mkfs.ext2 or mkswap"
fi
case $mkfs in
  *mkswap) "$mkfs" -f "$device" >/dev/null || die "$mkfs" ;;
  *) "$mkfs" -q -F "$device" || die "$mkfs" ;;
esac
"$untorn" create "$device" 2>"$work/error" && die "a file system was overwritten without --force"
grep -qE 'ext[24]|swap' "$work/error" || die "the message does not say what is there: $(cat "$work/error")"
"$untorn" create "$device" --force || die "create --force over a file system"
"$untorn" fsck "$device" || die "fsck"
echo "all passed"
