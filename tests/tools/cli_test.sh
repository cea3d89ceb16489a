#!/bin/bash
# The command line tool, from outside: exit codes, messages, round trips.
set -u
untorn=$(readlink -f "$1")
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/cli.XXXXXX")
trap 'rm -rf "$work"' EXIT
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
  if grep -qE 'Stack trace|terminate called|Aborted|    @ ' err; then fail "untorn $*: stack trace"; fi
}

same() { cmp "$1" "$2" || fail "$1 and $2 differ"; }

json() { python3 -c 'import json,sys; d=json.load(open("out")); print(eval(sys.argv[1]))' "$1" || fail "no JSON: $1"; }

commands='create resize trim info stats scrub top ls rm mv truncate put get write read dump fsck'
echo "== help"
expect 0 'Usage: untorn COMMAND' help
expect 0 'Usage: untorn COMMAND' --help
expect 2 'Usage: untorn COMMAND'
expect 0 '^untorn [0-9]+\.[0-9]+\.[0-9]+$' --version
for command in $commands; do
  expect 0 "Usage: untorn $command " "$command" --help
  grep -q 'Examples:' out && grep -q 'Exit code:' out || fail "help of $command teaches too little"
  expect 0 "Usage: untorn $command " help "$command"
  expect 2 "unknown option '--frobnicate'" "$command" store --frobnicate
  expect 2 'missing argument' "$command"
done

echo "== wrong usage"
expect 2 "Did you mean 'put'" putt a b
expect 2 "there is no command 'nonsense'" nonsense
expect 2 "there is no command 'nonsense'" help nonsense
expect 2 "Did you mean '--force'" create s --forse --size=16M
expect 2 'not an option of this command' ls s --size=1G
expect 2 'options come after the command' --json ls s
expect 2 'is not a size' create s --size=lots
expect 2 'is not a size' create s --size=-1
expect 2 'is not a size' create s --size=1.5G
expect 2 'too large' create s --size=99999999T
expect 2 'needs a value' create s --size
expect 2 'takes no value' put s f --no-sync=1
expect 2 'not a policy' put s f --policy=maybe
expect 2 'not an engine' info s --engine=steam
expect 2 'too many arguments' info s t
expect 2 'unknown option .-x' info s -x
expect 2 'no part' dump s --parts=log,soul
expect 2 'needs a NAME' put s -
expect 2 'new size is needed' truncate s a
expect 2 'is not a size' write s a --offset=none
expect 2 "leaves out" dump s --parts=log --object=a
expect 0 'Usage: untorn COMMAND' help help

echo "== create"
expect 0 'created s.untorn: at most 64.0 MiB' create s.untorn --size=64M
expect 1 'untorn: create: .*exist' create s.untorn --size=64M
(($(stat -c %b s.untorn) < 100000)) || fail "a new store is not sparse"
# Prepared, so that what the statistics of a command count is its own.
expect 0 '' create s.untorn --size 64M --force --quiet --prepare
(($(stat -c %b s.untorn) >= 131072)) || fail "create --prepare left holes"
[[ -s err ]] && fail "--quiet is not quiet: $(cat err)"
expect 1 'untorn: create: ' create small.untorn --size=1M
[[ -e small.untorn ]] && fail "a refused create left a file"
expect 1 'untorn: create: ' create no/such/directory --size=16M
expect 0 '' create kept.untorn --size=16M
ln -s kept.untorn link.untorn
cp kept.untorn kept.before
expect 1 'untorn: create: ' create kept.untorn --size=2000000T --force
expect 1 'untorn: create: ' create kept.untorn --size=1M --force
same kept.untorn kept.before
chmod 600 kept.untorn
expect 0 '' create link.untorn --size=8M --force
[[ $(stat -c %a kept.untorn) == 600 ]] || fail "create --force keeps the permissions"
[[ -L link.untorn && $(stat -c %s kept.untorn) == 8388608 ]] || fail "create --force through a link"
# Without a size, and with one that no file can have: the file begins small all the same.
expect 0 'at most' create growing.untorn
expect 0 '' create huge.untorn --size=1000000T
expect 0 '' put huge.untorn kept.before kept --quiet
expect 0 'huge.untorn: clean' fsck huge.untorn
(($(stat -c %s huge.untorn) < 200000000 && $(stat -c %s growing.untorn) < 100000000)) || fail "a store begins large"
# A process that ended while it prepared more leaves the file too long.
truncate --size=200M huge.untorn
expect 0 'at most 128.0 GiB, before' resize huge.untorn --size=128G
(($(stat -c %s huge.untorn) < 200000000)) || fail "resize to less leaves the file too long"
expect 1 'does not fit' resize huge.untorn --size=8M
expect 0 'at most 24.0 MiB, before' resize huge.untorn --size=24M
(($(stat -c %s huge.untorn) <= 25165824)) || fail "resize to less does not cut the file"
expect 0 'huge.untorn: clean' fsck huge.untorn
expect 2 'is not a size' resize huge.untorn --size=more
expect 0 '' resize huge.untorn --quiet
expect 0 'huge.untorn: clean' fsck huge.untorn
rm huge.untorn
compgen -G '*.new-*' >/dev/null && fail "create left something: $(ls)"

echo "== trim"
expect 0 '' create trim.untorn
for i in 1 2 3; do head -c 40000000 /dev/urandom | "$untorn" put trim.untorn - "t $i" --quiet || fail "put $i"; done
"$untorn" get trim.untorn 't 3' t3 --quiet
expect 0 '' rm trim.untorn 't 1' --quiet
expect 0 '' rm trim.untorn 't 2' --quiet
expect 1 'does not fit' resize trim.untorn --size=30M
length=$(stat -c %s trim.untorn)
expect 0 'before .* moved' trim trim.untorn
(($(stat -c %s trim.untorn) < length * 2 / 3)) || fail "trim cuts nothing: $(stat -c %s trim.untorn) of $length"
expect 0 'trim.untorn: clean' fsck trim.untorn --data
expect 0 '' get trim.untorn 't 3' t3.after
same t3 t3.after
expect 0 '' trim trim.untorn --json
[[ $(json 'd["after_bytes"] <= d["before_bytes"]') == True ]] || fail "trim --json: $(cat out)"
rm trim.untorn

echo "== put, get"
real=$untorn
head -c 300001 "$real" >part
cp part 'odd size'
expect 0 'put: ' put s.untorn part
expect 1 '(exist|already).*--force' put s.untorn part
expect 0 '' put s.untorn 'odd size' other --quiet
expect 0 '' get s.untorn part part.out
same part part.out
expect 1 'exists \(--force' get s.untorn part part.out
expect 0 '' get s.untorn other part.out --force
head -c 20000000 "$real" >whole
expect 0 '' put s.untorn whole part --force
expect 0 '' get s.untorn part whole.out
same whole whole.out
"$untorn" get s.untorn part - 2>/dev/null | cmp - whole || fail "get to stdout"
"$untorn" put s.untorn - piped --quiet <part || fail "put from a pipe"
"$untorn" get s.untorn piped - 2>/dev/null | cmp - part || fail "get of what came from a pipe"
: >empty
expect 0 '' put s.untorn empty
expect 0 '' get s.untorn empty empty.out
same empty empty.out
expect 2 'the store itself' get s.untorn part s.untorn --force
expect 2 'the store itself' put s.untorn ./s.untorn self
expect 1 'No such file' put s.untorn nowhere
expect 1 'directory' put s.untorn . dot
expect 1 'untorn: get: ' get s.untorn nowhere
expect 1 'No such file' get s.untorn part no/such/directory
if [[ -c /dev/full ]]; then expect 1 'No space' get s.untorn part /dev/full; fi
[[ -e nowhere ]] && fail "get of nothing left a file"
compgen -G '*.untorn-*' >/dev/null && fail "unfinished files are left: $(ls)"

echo "== write, read"
printf 'hello, world' >words
expect 0 '' write s.untorn part words --offset=4090 --atomic-unit=64K
printf 'hello, world' | dd of=whole bs=1 seek=4090 conv=notrunc status=none
expect 0 '' get s.untorn part whole.out --force
same whole whole.out
"$untorn" write s.untorn part --offset=1M --quiet --no-atomic <part || fail "write from stdin"
dd if=part of=whole bs=1M seek=1 conv=notrunc status=none
"$untorn" read s.untorn part --offset=1M --length=300001 | cmp - part || fail "read"
expect 0 '' read s.untorn part all
same whole all
expect 0 '' read s.untorn part --offset=1T
[[ -s out ]] && fail "read beyond the end gave something"
expect 1 'untorn: write: ' write s.untorn nowhere words
expect 0 '' write s.untorn new words --create --policy=cow
"$untorn" read s.untorn new | cmp - words || fail "write --create"
expect 1 'untorn: write: ' write s.untorn new empty
expect 1 'untorn: write: ' write s.untorn new words --offset=18446744073709551614
expect 0 'commits 1, flushes 1, ' write s.untorn new words --show-stats
expect 1 'hardware-only.*no-atomic-limits' write s.untorn new words --policy=hardware
expect 1 'hardware-only.*no-atomic-limits' write s.untorn newer words --policy=hardware --create
expect 1 'hardware-only' put s.untorn part newer --policy=hardware
expect 1 'at most 67108864|larger than the' write s.untorn new /dev/zero
# A closed stream's number must not become the store's.
cp s.untorn closed.untorn
"$untorn" write closed.untorn new --show-stats --verbose <words 2>&- || fail "stderr closed"
"$untorn" ls closed.untorn --verbose <&- >out 2>err || fail "stdin closed"
"$untorn" put closed.untorn - nothing <&- 2>err && fail "read from a closed stdin"
expect 0 'closed.untorn: clean' fsck closed.untorn
rm closed.untorn

echo "== ls, mv, rm, truncate"
expect 0 '300001  other' ls s.untorn
expect 0 '' ls s.untorn --json
[[ $(json '[o["size_bytes"] for o in d if o["name"]=="other"]') == '[300001]' ]] || fail "ls --json: $(cat out)"
expect 1 'untorn: mv: ' mv s.untorn other part
expect 1 'untorn: mv: ' mv s.untorn nowhere somewhere
expect 0 '' mv s.untorn other renamed
expect 0 '' mv s.untorn renamed new --force
"$untorn" get s.untorn new - 2>/dev/null | cmp - part || fail "mv --force"
expect 0 '' truncate s.untorn new --size=5000
"$untorn" get s.untorn new - 2>/dev/null | cmp - <(head -c 5000 part) || fail "truncate"
expect 1 'untorn: rm: ' rm s.untorn new nowhere
expect 0 ' new$' ls s.untorn
expect 0 '' rm s.untorn new piped
expect 1 'untorn: rm: ' rm s.untorn new
expect 0 '' put s.untorn part --quiet -- --strange
expect 1 'untorn: put: ' put s.untorn part "$(printf '%0256d' 0)"
expect 1 'untorn: put: ' put s.untorn part ''
expect 0 '' put s.untorn part $'tab\there \xff'
expect 0 'tab.there' ls s.untorn
expect 0 '' ls s.untorn --json
json 'len(d)' >/dev/null

echo "== a full store"
cat whole whole >big
i=0
expect 0 '' create full.untorn --size=16M
expect 1 'no space: .*after [0-9]+ bytes.*as before' put full.untorn big
expect 0 '' ls full.untorn
[[ -s out ]] && fail "a refused import left an object"
expect 0 '' put full.untorn part a
while "$untorn" write full.untorn a part --offset=$((i += 300000)) --quiet 2>err; do :; done
grep -q 'no space' err || fail "no word of space: $(cat err)"
expect 0 'full.untorn: clean' fsck full.untorn
expect 0 '' truncate full.untorn a --size=1
expect 0 '' write full.untorn a part
expect 0 '' rm full.untorn a
expect 0 '' put full.untorn part again

echo "== info, stats, dump, fsck"
expect 0 'atomic writes +up to' info s.untorn
expect 0 '64.0 KiB' info s.untorn --atomic-unit=64K
expect 0 'durable commit +one write of data and record with RWF_DSYNC, by ' info s.untorn
expect 0 'by pwritev2; ' info s.untorn --engine=syscalls
expect 0 '' info s.untorn --json
[[ $(json 'd["size_bytes"]') == 67108864 ]] || fail "info --json: $(cat out)"
expect 0 'by this command' stats s.untorn
expect 0 '' stats s.untorn --json --engine=syscalls
[[ $(json 'd["state"]["space_free"] > 0') == True ]] || fail "stats --json: $(cat out)"
expect 0 '^untorn_lsn_durable.store="s.untorn". [1-9]' stats s.untorn --prometheus
expect 2 'exclude one another' stats s.untorn --prometheus --json
expect 0 's.untorn: clean' fsck s.untorn
expect 0 '' fsck s.untorn --json
[[ $(json 'd["clean"], d["findings"]') == '(True, [])' ]] || fail "fsck --json: $(cat out)"
[[ -s err ]] && fail "progress with --json"
expect 0 'part' dump s.untorn
expect 0 '' dump s.untorn --json
json 'len(d)' >/dev/null
expect 0 '' dump s.untorn --object=part
grep -qE "^(log|tree) " out && fail "dump of one object shows everything"

echo "== things that are no store"
head -c 10000000 "$real" >none
for command in info ls stats; do expect 1 "untorn: $command: .*" "$command" none; done
cp none none.before
expect 1 'untorn: put: ' put none part
same none none.before
expect 1 'nowhere' info nowhere
expect 1 '' fsck nowhere
head -c 30M s.untorn >short
expect 1 'untorn: info: .*short|untorn: info: .*small' info short
expect 1 'store-cut-short|cut short' fsck short
expect 0 '' dump short --parts=log
expect 1 'no-superblock|superblock' fsck none
cp s.untorn damaged
printf 'garbage' | dd of=damaged bs=1 conv=notrunc status=none
expect 1 'damaged: 1 finding$' fsck damaged
expect 0 'superblock slot 0 is unusable' ls damaged
expect 0 'written anew' put damaged 'odd size' --quiet
expect 0 'damaged: clean' fsck damaged

echo "== scrub"
expect 0 'created rot.untorn' create rot.untorn --size=16M
head -c 50000 /dev/urandom >bytes
expect 0 '' put rot.untorn bytes --quiet
expect 0 'rot.untorn: clean' scrub rot.untorn
expect 0 'data: 13 blocks read' fsck rot.untorn --data
expect 0 '' dump rot.untorn --json --parts=objects
block=$(json '[o["mappings"][0]["physical"] for o in d["objects"]][0]')
printf 'rot' | dd of=rot.untorn bs=1 seek=$((block * 4096 + 77)) conv=notrunc status=none
expect 1 "'bytes', bytes 0 to 4095: does not match its checksum, from block $block on" scrub rot.untorn
expect 1 '' scrub rot.untorn --json --limit=100M
[[ $(json 'd["damaged"][0]["name"], d["damaged_bytes"], d["clean"]') == "('bytes', 4096, False)" ]] || fail "scrub --json: $(cat out)"
expect 1 'data-damaged .18.: object 1 .bytes., block 0 of it' fsck rot.untorn --data
expect 0 'rot.untorn: clean' fsck rot.untorn
expect 1 'does not match its checksum' get rot.untorn bytes -
expect 2 'which --repair cannot mend' fsck rot.untorn --data --repair
expect 0 '' put rot.untorn bytes --quiet --force
expect 0 'rot.untorn: clean' scrub rot.untorn

echo "== repair"
expect 0 'damaged: clean' fsck damaged --repair
expect 2 'dry-run tells what --repair would do' fsck damaged --dry-run
expect 1 'cannot be repaired: .*none: not an untorn store' fsck none --repair
expect 1 'cut short' fsck short --repair
printf 'garbage' | dd of=damaged bs=1 seek=32768 conv=notrunc status=none
expect 1 'write superblock slot 1 anew from slot 0' fsck damaged --repair --dry-run
expect 1 'damaged: 1 finding$' fsck damaged
expect 0 'damaged: clean' fsck damaged --repair
expect 0 '' dump damaged --json --parts=tree
leaf=$(json '[n["block"] for n in d["tree"]["nodes"] if n["level"] == 0][0]')
dd if=/dev/zero of=damaged bs=4096 seek="$leaf" count=1 conv=notrunc status=none
cp damaged damaged.before
expect 1 "write the mapping tree anew.*; nodes of it that cannot: 1" fsck damaged --repair --dry-run
same damaged damaged.before
expect 0 'damaged: clean' fsck damaged --repair
expect 0 'damaged: clean' fsck damaged
expect 0 '' put damaged "$real" anew --quiet
expect 0 '' fsck damaged.before --repair --json
[[ $(json 'd["repaired"], d["after"]["clean"], d["actions_total"] > 2') == '(True, True, True)' ]] || fail "fsck --repair --json: $(cat out)"

echo "== a store in use"
mkfifo pipe
"$untorn" put s.untorn - held --quiet <pipe &
holder=$!
exec 9>pipe
for _ in $(seq 100); do
  "$untorn" info s.untorn 2>&1 | grep -q 'open elsewhere' && break
  sleep 0.1
done
expect 1 "open for writing by process $holder" put s.untorn part again
expect 1 "process $holder" fsck s.untorn --repair
# Other processes read a state of it.
expect 0 '' ls s.untorn
cp out before.ls
expect 0 's.untorn: clean' fsck s.untorn --data
grep -q 'a state of it was checked' out || fail "fsck beside a writer: $(cat out)"
expect 0 '' fsck s.untorn --json
[[ $(json 'd["beside_owner"], d["clean"]') == '(True, True)' ]] || fail "fsck --json beside a writer: $(cat out)"
expect 0 '' dump s.untorn --json
[[ $(json 'd["beside_owner"], len(d["objects"]) > 0, "log" in d') == '(True, True, False)' ]] || fail "dump beside a writer: $(cat out)"
kill -9 "$holder"
wait "$holder" 2>/dev/null
exec 9>&-
expect 0 's.untorn: clean' fsck s.untorn
expect 0 '' ls s.untorn
grep -q held out && fail "an import that was killed left an object"

echo "== a store that cannot be written"
chmod a-w s.untorn
[[ $(id -u) -eq 0 ]] || expect 1 'untorn: put: ' put s.untorn part in-use
expect 0 '' ls s.untorn

[[ $failures -eq 0 ]] || { echo "$failures failures" >&2; exit 1; }
echo "all passed"
