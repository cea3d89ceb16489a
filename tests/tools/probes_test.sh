#!/bin/bash
# The ELF notes name each probe, with as many arguments as docs/watching.md tells, in what users trace.
set -u
document=$1
shift
failures=0

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# probes FILE: "name sizes...", one line for each place of a probe.
probes() {
  readelf -n "$1" | awk '
    $1 == "Provider:" { provider = $2 }
    $1 == "Name:" { name = $2 }
    $1 == "Arguments:" && provider == "untorn" {
      line = name
      for (i = 2; i <= NF; ++i) if ($i ~ /^-?[0-9]+@/) { split($i, size, "@"); line = line " " size[1] }
      print line
    }
    # What debuggers count addresses from.
    provider == "untorn" && /Base: 0x0+,/ { print "no base of " name }' | sort -u
}

expected=$(sort <<'PROBES'
checkpoint 8
commit 8 8 8
completion -4 8 8 -4
plan 8 8 -4
submit 8 8 8
PROBES
)
for file in "$@"; do
  [[ $(probes "$file") == "$expected" ]] || fail "$file has the probes: $(probes "$file")"
done
# Every program has notes of other probes, and those do not count.
[[ -z $(probes /bin/bash) ]] || fail "there are probes where there can be none"
while read -r name sizes; do
  row=$(grep -E "^\\| \`$name\` \\|" "$document") || fail "$document does not tell of $name"
  arguments=$(grep -oE '`arg[0-9]`' <<<"$row" | wc -l)
  [[ $arguments == $(wc -w <<<"$sizes") ]] || fail "$document tells of $arguments arguments of $name"
done <<<"$expected"

[[ $failures -eq 0 ]] || { echo "$failures failures" >&2; exit 1; }
echo "all passed"
