#!/bin/bash
# The examples do what they say, and keep what they acknowledged when they are killed (promises 3 and 6).
set -u
key_value=$(readlink -f "$1") sqlite_accounts=$(readlink -f "$2") untorn=$(readlink -f "$3")
cd "$(mktemp -d)" || exit 1
trap 'kill %% 2>/dev/null; rm -rf "$PWD"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# ---- key_value ----
"$key_value" kv.untorn put b two && "$key_value" kv.untorn put a one && "$key_value" kv.untorn put c three || fail put
[[ $("$key_value" kv.untorn get b) == two ]] || fail get
"$key_value" kv.untorn put b 2 && "$key_value" kv.untorn delete a || fail "put, delete"
[[ $("$key_value" kv.untorn scan) == $'b 2\nc three' ]] || fail "scan: $("$key_value" kv.untorn scan)"
"$key_value" kv.untorn delete a 2>error && fail "a key is deleted twice"
grep -q "no key 'a'" error || fail "$(cat error)"
"$key_value" kv.untorn put "$(printf '%0256d' 0)" x 2>error && fail "a long key is accepted"
grep -q "255 bytes" error || fail "$(cat error)"
"$key_value" kv.untorn put 2>/dev/null
[[ $? == 2 ]] || fail "wrong usage"

# Random pairs, keys given twice among them; what comes last counts.
awk 'BEGIN { srand(7); for (i = 0; i < 6000; ++i) {
  v = ""; for (n = rand() * 90; n > 0; --n) v = v int(rand() * 1e6); printf "%s%d %d-%s\n", rand() < .5 ? "k" : "key", rand() * 4000, i, substr(v, 1, 900) } }' >pairs
"$key_value" many.untorn load <pairs >told || fail load
[[ $(wc -l <told) == 6000 ]] || fail "$(wc -l <told) pairs are acknowledged"
export LC_ALL=C
awk '{ last[$1] = $0 } END { for (k in last) print last[k] }' pairs | sort -k1,1 >expected
"$key_value" many.untorn scan >found && cmp found expected || fail "many pairs"
"$key_value" many.untorn scan key2 | cmp - <(awk '$1 >= "key2"' expected) || fail "scan from a key"
cut -d' ' -f1 expected | awk 'NR % 10 == 0' | head -50 | while read -r key; do
  "$key_value" many.untorn delete "$key" || exit 1
done || fail "delete"
"$key_value" many.untorn scan | cmp - <(awk 'NR % 10 != 0 || NR > 500' expected) || fail "after deleting"

for round in 1 2 3; do
  rm -f killed.untorn
  "$key_value" killed.untorn load <pairs >told &
  sleep "0.$((RANDOM % 6 + 2))"
  kill -9 %%
  wait %% 2>/dev/null
  [[ -s told ]] || continue  # killed before it had made the store
  n=$(wc -l <told)
  "$key_value" killed.untorn scan >found || fail "after a kill"
  # The one after those acknowledged may be there.
  for more in 0 1; do
    head -$((n + more)) pairs | awk '{ last[$1] = $0 } END { for (k in last) print last[k] }' | sort -k1,1 >expected
    cmp -s found expected && continue 2
  done
  fail "round $round: after $n were acknowledged, others are found"
done
"$untorn" fsck --quiet killed.untorn many.untorn 2>/dev/null || "$untorn" fsck --quiet many.untorn || fail fsck

# ---- sqlite_accounts ----
"$sqlite_accounts" bank.untorn 50 >told || fail "$(cat told)"
tail -1 told | grep -q 'all the money is there' || fail "$(cat told)"
for round in 1 2 3; do
  "$sqlite_accounts" bank.untorn 1000000 >told &
  sleep "0.$((RANDOM % 6 + 2))"
  kill -9 %%
  wait %% 2>/dev/null
  checked=$("$sqlite_accounts" bank.untorn 0) || fail "round $round: $checked"
  last=$(grep -E '^transfer [0-9]+$' told | tail -1 | cut -d' ' -f2)
  [[ ${checked%% *} -ge ${last:-0} ]] || fail "round $round: $checked, but $last were told"
done
[[ $("$untorn" ls bank.untorn | wc -l) == 2 ]] || fail "$("$untorn" ls bank.untorn)"
"$sqlite_accounts" bank.untorn many 2>/dev/null
[[ $? == 2 ]] || fail "wrong usage"
echo "last: $checked"
