#!/bin/bash
# Stores where mounts, disks and file systems are not the usual ones. Each part is a case of its own in the test's results. A
# part that the machine has no means for is skipped there.
set -u
untorn=$(readlink -f "$1")
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/surroundings.XXXXXX")
devices=() mounts=() cases='' failed=0 part='' owner=''

die() {
  echo "FAILED: $part: $*" >&2
  exit 1
}

skip() {
  echo "skipped: $part: $1"
  exit 100
}

# Runs one part in a shell of its own, with an empty directory as the working directory, and takes down what it has put up.
run() {
  part=$1
  echo "== $part"
  mkdir "$work/$part" && cd "$work/$part" || exit 1
  (
    trap take_down EXIT
    "$part"
  )
  case $? in
    0) cases+="<testcase name=\"$part\"/>" ;;
    100) cases+="<testcase name=\"$part\" result=\"skipped\"/>" ;;
    *) failed=1 cases+="<testcase name=\"$part\"><failure/></testcase>" ;;
  esac
  cd / && rm -rf "${work:?}/$part"
}

# The kernel closes the files of a ring a moment after its process has ended.
patiently() {
  local i
  for ((i = 0; i < 300; ++i)); do
    "$@" 2>error && return
    sleep 0.1
  done
  cat error
  return 1
}

take_down() {
  local i
  [[ -z $owner ]] || kill_owner
  for ((i = ${#mounts[@]} - 1; i >= 0; --i)); do patiently umount "${mounts[i]}"; done
  for ((i = ${#devices[@]} - 1; i >= 0; --i)); do
    losetup -d "${devices[i]}"
    # The protection outlasts the device, and would be that of the next one with its name.
    blockdev --setrw "${devices[i]}"
  done
}

# Makes a loop device of a file: loop FILE [OPTION]...; `device` is its name.
loop() {
  device=$(losetup --find --show "${@:2}" "$1" 2>error) || skip "$(cat error)"
  devices+=("$device")
}

attach() { # WHAT WHERE [OPTION]...
  mkdir -p "$2"
  mount "${@:3}" "$1" "$2" 2>error || skip "$(cat error)"
  mounts+=("$2")
}

detach() {
  patiently umount "$1" || die "umount $1"
  mounts=("${mounts[@]/$1/}")
  local kept=() m
  for m in "${mounts[@]}"; do [[ -z $m ]] || kept+=("$m"); done
  mounts=("${kept[@]}")
}

needs_file_system() {
  modprobe -q "$1" 2>/dev/null
  grep -qw "$1" /proc/filesystems || skip "this kernel has no $1"
}

needs_program() { command -v "$1" >/dev/null || skip "there is no $1"; }

data() { head -c "$1" /dev/urandom; }

# Puts a file into the store and takes it out again.
round_trip() { # STORE NAME
  data 3000001 >"$2.data"
  "$untorn" put --quiet "$1" "$2.data" "$2" || die "put into $1"
  same "$1" "$2"
}

same() { "$untorn" get --quiet "$1" "$2" - | cmp - "$2.data" || die "$1 has other content"; }

checked() { "$untorn" fsck --data "$1" >out 2>&1 || die "fsck $1: $(cat out)"; }

says() { # TEXT COMMAND...
  "${@:2}" >out 2>&1 && die "it succeeded: ${*:2}"
  grep -qF -- "$1" out || die "no '$1' from '${*:2}': $(cat out)"
  [[ $(wc -l <out) -le 2 ]] || die "more than one error: $(cat out)"
}

tells() { # STORE LINE-OF-INFO TEXT [OPTION]...
  "$untorn" info "$1" "${@:4}" >out 2>error || die "info $1: $(cat error)"
  grep "^$2" out | grep -qE -- "$3" || die "info $1 does not say '$3' of '$2': $(cat out)"
}

# A process that has the store open for writing, with the object `held`; `owner` is its number.
hold() {
  [[ -p held.in ]] || mkfifo held.in || die "mkfifo"
  "$untorn" write --quiet --no-atomic --create "$1" held <held.in &
  owner=$!
  exec 3>held.in
  data 5000000 >&3
  until "$untorn" ls "$1" 2>/dev/null | grep -q ' held$'; do
    kill -0 "$owner" || die "the owner ended"
    sleep 0.1
  done
}

kill_owner() {
  kill -9 "$owner"
  wait "$owner" 2>/dev/null
  exec 3>&-
  owner=''
}

recovers() { "$untorn" stats "$1" --json | grep -qE '"recovered_records": [1-9]'; }

refuses_a_second_owner() {
  hold "$1"
  says "$1: open for writing by process $owner" "$untorn" rm "$1" held
  kill_owner
}

# Two stores with one object, of which one has lost its owner. A reader makes the owner write a checkpoint, so that nothing is
# left to recover. The owner commits a moment later again.
clean_and_crashed() { # DIRECTORY
  "$untorn" create --quiet "$1/clean" --size=32M || die "create"
  round_trip "$1/clean" a
  cp "$1/clean" "$1/crashed"
  local i
  for i in 1 2 3 4 5; do
    hold "$1/crashed"
    data 2000000 >&3
    sleep "$i"
    kill_owner
    ! recovers "$1/crashed" || return
  done
  die "nothing to recover"
}

# ---- The parts ----

read_only_mount() {
  truncate -s 256M disk
  mkfs.ext4 -q disk || die "mkfs"
  loop disk
  attach "$device" m
  clean_and_crashed m
  cp m/crashed before
  patiently mount -o remount,ro m || die "remount"
  for store in m/clean m/crashed; do
    says "Read-only file system; a store there can be opened read-only" "$untorn" rm "$store" a
    same "$store" a
    "$untorn" info "$store" >out || die "info $store"
    "$untorn" ls "$store" | grep -q ' a$' || die "ls $store"
    checked "$store"
  done
  recovers m/crashed || die "nothing was recovered"
  says "Read-only file system" "$untorn" create m/new --size=32M
  cmp before m/crashed || die "the store was changed"
}

read_only_bind_mount() {
  mkdir there
  "$untorn" create --quiet there/store --size=32M || die "create"
  round_trip there/store a
  attach there here --bind
  mount -o remount,bind,ro here || skip "no read-only bind mounts"
  says "Read-only file system; a store there can be opened read-only" "$untorn" rm here/store a
  same here/store a
  hold there/store
  same here/store a
  tells here/store "open elsewhere" "for writing"
}

read_only_block_device() {
  truncate -s 64M disk
  loop disk
  "$untorn" create --quiet "$device" || die "create"
  round_trip "$device" a
  blockdev --setro "$device"
  says "can be opened read-only" "$untorn" rm "$device" a
  says "can be opened read-only" "$untorn" create "$device" --force
  same "$device" a
  checked "$device"
  blockdev --setrw "$device"
  round_trip "$device" b
  loop disk -r
  says "can be opened read-only" "$untorn" rm "$device" a
  same "$device" a
}

tmpfs() {
  attach tmpfs m -t tmpfs
  "$untorn" create --quiet m/store --size=64M || die "create"
  round_trip m/store a
  tells m/store "direct I/O" "the file system is in memory|no: "
  tells m/store "durable commit" "in memory, and ends with the machine"
  checked m/store
}

overlayfs() {
  needs_file_system overlay
  mkdir lower upper scratch
  "$untorn" create --quiet lower/store --size=64M || die "create"
  round_trip lower/store a
  attach overlay m -t overlay -o lowerdir=lower,upperdir=upper,workdir=scratch
  same m/store a
  [[ ! -e upper/store ]] || die "a store that was only read was copied"
  round_trip m/store b
  same m/store a
  checked m/store
  tells m/store "direct I/O" "yes|no: "
  tells m/store "atomic support" "overlayfs does not tell where an overwrite goes" --atomic-unit=16K
  grep -q "warning: .*overlayfs does not tell" error || die "no warning: $(cat error)"
  refuses_a_second_owner m/store
}

squashfs() {
  needs_file_system squashfs
  needs_program mksquashfs
  mkdir files
  clean_and_crashed files
  mksquashfs files image -quiet -no-progress >/dev/null || die "mksquashfs"
  loop image -r
  attach "$device" m
  for store in m/clean m/crashed; do
    same "$store" a
    "$untorn" ls "$store" | grep -q ' a$' || die "ls $store"
    checked "$store"
    tells "$store" "direct I/O" "no: .*refuses it.*page cache.*in place"
    says "Read-only file system; a store there can be opened read-only" "$untorn" rm "$store" a
  done
  says "needs direct I/O" "$untorn" info m/clean --atomic-unit=16K
}

# Checksums of btrfs fail if a buffer changes while it is written.
btrfs_checksums() {
  needs_file_system btrfs
  needs_program mkfs.btrfs
  truncate -s 600M disk
  mkfs.btrfs -q disk >/dev/null || die "mkfs"
  loop disk
  attach "$device" m
  "$untorn" create --quiet m/store --size=128M || die "create"
  tells m/store "direct I/O" "btrfs may take writes through the page cache|no: "
  tells m/store "atomic support" "btrfs copies on write" --atomic-unit=16K
  grep -q "warning: .*btrfs copies on write" error || die "no warning: $(cat error)"
  local i
  for i in 1 2 3 4 5; do
    round_trip m/store "o$i"
    data 40000 >piece
    "$untorn" write --quiet m/store o1 piece --offset=$((i * 70001)) || die "write"
    dd if=piece of=o1.data bs=1 seek=$((i * 70001)) conv=notrunc status=none
  done
  # What is in the page cache goes with the mount.
  detach m
  attach "$device" m
  btrfs scrub start -B m >scrubbed 2>&1 || die "btrfs scrub: $(cat scrubbed)"
  grep -qE "no errors found" scrubbed || die "btrfs scrub: $(cat scrubbed)"
  for i in 1 2 3 4 5; do same m/store "o$i"; done
  checked m/store
  btrfs subvolume create m/volume >/dev/null || die "subvolume"
  cp m/store m/volume/store
  for store in m/store m/volume/store; do refuses_a_second_owner "$store"; done
}

btrfs_without_checksums() {
  needs_file_system btrfs
  needs_program mkfs.btrfs
  truncate -s 600M disk
  mkfs.btrfs -q disk >/dev/null || die "mkfs"
  loop disk
  attach "$device" m
  mkdir m/d
  chattr +C m/d || die "chattr"
  "$untorn" create --quiet m/d/store --size=64M || die "create"
  round_trip m/d/store a
  tells m/d/store "atomic support" "up to 16384 bytes$" --atomic-unit=16K
  [[ ! -s error ]] || die "a warning without a reason: $(cat error)"
}

xfs_reflinks() {
  needs_file_system xfs
  needs_program mkfs.xfs
  truncate -s 512M disk
  mkfs.xfs -q disk || die "mkfs"
  loop disk
  attach "$device" m
  "$untorn" create --quiet m/store --size=64M || die "create"
  round_trip m/store a
  tells m/store "atomic support" "up to 16384 bytes$" --atomic-unit=16K
  cp --reflink=always m/store m/copy || skip "no reflinks"
  tells m/store "atomic support" "shares blocks" --atomic-unit=16K
  grep -q "warning: .*shares blocks" error || die "no warning: $(cat error)"
  round_trip m/store b
  checked m/store
  checked m/copy
}

large_sectors() {
  truncate -s 256M disk
  loop disk -b 4096
  [[ $(blockdev --getss "$device") -eq 4096 ]] || skip "no sectors of 4096 bytes"
  "$untorn" create --quiet "$device" || die "create"
  round_trip "$device" a
  tells "$device" "direct I/O" "yes"
  checked "$device"
  mkfs.ext4 -q -F "$device" || die "mkfs"
  attach "$device" m
  "$untorn" create --quiet m/store --size=64M || die "create in a file"
  round_trip m/store a
  tells m/store "direct I/O" "yes"
  checked m/store
}

mount_namespaces() {
  unshare -m true 2>error || skip "$(cat error)"
  mkdir there here
  "$untorn" create --quiet there/store --size=32M || die "create"
  round_trip there/store a
  hold there/store
  inside() { unshare -m "$@" sh -c "mount --bind there here && exec \"\$@\"" sh "${command[@]}"; }
  command=("$untorn" rm here/store a)
  says "here/store: open for writing by process $owner" inside
  command=("$untorn" get --quiet here/store a -)
  inside | cmp - a.data || die "a reader beside the owner"
  # In a PID namespace of its own the owner has no number.
  if unshare -mpf --mount-proc true 2>/dev/null; then
    command=("$untorn" rm here/store a)
    says "locked by a process that is gone or not visible from here" inside -pf --mount-proc
    command=("$untorn" get --quiet here/store a -)
    inside -pf --mount-proc | cmp - a.data || die "a reader beside an owner that it cannot see"
  fi
  kill_owner
  command=("$untorn" rm here/store a)
  inside || die "rm when the owner is gone"
  checked there/store
}

# The default action of SIGXFSZ would end the command.
file_size_limit() {
  says "RLIMIT_FSIZE" sh -c 'ulimit -f 1024; exec "$@"' sh "$untorn" create store --size=32M
  [[ -z $(ls store*) ]] 2>/dev/null || die "a part of a store was left: $(ls)"
  "$untorn" create --quiet store --size=32M || die "create"
  round_trip store a
  says "RLIMIT_FSIZE" sh -c 'ulimit -f 1024; exec "$@"' sh "$untorn" rm store a
  says "File too large" sh -c 'ulimit -f 1024; exec "$@"' sh "$untorn" get --quiet store a copy
  [[ ! -e copy ]] || die "a part of an object was left"
}

parts=(file_size_limit read_only_mount read_only_bind_mount read_only_block_device tmpfs overlayfs squashfs btrfs_checksums
  btrfs_without_checksums xfs_reflinks large_sectors mount_namespaces)
for p in "${parts[@]}"; do
  if [[ $(id -u) -ne 0 && $p != file_size_limit ]]; then
    echo "skipped: $p: mounts need root"
    cases+="<testcase name=\"$p\" result=\"skipped\"/>"
    continue
  fi
  run "$p"
done
rm -rf "$work"
[[ -z ${XML_OUTPUT_FILE:-} ]] ||
  echo "<testsuites><testsuite name=\"surroundings_test\">$cases</testsuite></testsuites>" >"$XML_OUTPUT_FILE"
[[ $failed -eq 0 ]] && echo "all passed"
