#!/bin/bash
# A short run of the demo: its last lines and exit codes.
set -u
demo=$(readlink -f "$1")
out=$(mktemp)
trap 'rm -f "$out"' EXIT

"$demo" --rounds=3 >"$out" 2>&1 || {
  cat "$out"
  echo "FAILED: the demo failed" >&2
  exit 1
}
[[ $(tail -2 "$out") == $'torn: 0\nlost: 0' ]] || {
  tail -5 "$out"
  echo "FAILED: wrong last lines" >&2
  exit 1
}
directory=$(sed -n 's/.*stores in \([^,]*\),.*/\1/p' "$out")
[[ -n $directory && ! -e $directory ]] || {
  echo "FAILED: '$directory' is left" >&2
  exit 1
}
if "$demo" /no/such/file >"$out" 2>&1; then
  echo "FAILED: no error without the file" >&2
  exit 1
fi
grep -q 'No such file' "$out"
