#!/bin/bash
# The C API by its shared library: a program in C, built with a plain compiler, keeps its sum when it is killed (promises 3
# and 6), and the library shows nothing but the API.
set -u
program=$(readlink -f "$1") header=$(readlink -f "$2") library=$(readlink -f "$3") untorn=$(readlink -f "$4")
cd "$(mktemp -d)" || exit 1
trap 'kill %% 2>/dev/null; rm -rf "$PWD"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

mkdir -p include/untorn && cp "$header" include/untorn/c.h && cp "$library" libuntorn.so.1 || fail copy
for standard in c99 c17; do
  cc -std=$standard -pedantic -Wall -Wextra -Werror -Iinclude "$program" ./libuntorn.so.1 -Wl,-rpath,"$PWD" -o pages ||
    fail "the program is no $standard"
done
c++ -std=c++11 -Wall -Wextra -Werror -fsyntax-only -x c++ -Iinclude include/untorn/c.h || fail "the header is no C++11"

./pages pages.untorn 200 >told || fail "$(cat told)"
grep -q 'the sum is right' told || fail "$(cat told)"
durable=200
for round in 1 2 3; do
  ./pages pages.untorn 100000000 >told &
  sleep "0.$((RANDOM % 6 + 2))"
  kill -9 %%
  wait %% 2>/dev/null
  told=$(awk '/are durable/ { n = $1 } END { print n + 0 }' told)
  [[ $told -gt $durable ]] || fail "it made no transfers: $(cat told)"
  ./pages pages.untorn 0 >found || fail "after a kill: $(cat found)"
  durable=$(awk '/were made before/ { print $1 }' found)
  [[ $durable -ge $told ]] || fail "$told transfers were durable, and $durable are there"
done
"$untorn" fsck --quiet pages.untorn || fail fsck
./pages missing/pages.untorn 1 2>error && fail "a store in a directory that is not there"
grep -q 'pages: create: ' error || fail "$(cat error)"

declared=$(grep -o '\buntorn_[a-z_]*(' include/untorn/c.h | tr -d '(' | sort -u)
shown=$(nm -D --defined-only libuntorn.so.1 | awk '$3 ~ /@@UNTORN_1$/ { sub(/@@.*/, "", $3); print $3 }' | sort -u)
[[ $declared == "$shown" ]] || fail "the header and the library differ: $(diff <(echo "$declared") <(echo "$shown"))"
[[ -z $(nm -DC --defined-only libuntorn.so.1 | cut -c20- | grep '^absl::') ]] || fail "the library shows Abseil"
echo PASSED
