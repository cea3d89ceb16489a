#!/bin/bash
# Drivers of other languages on a store: what they send at each connect, threads, rollback and backups. Each driver is a script
# of its own. One whose packages are not installed is skipped, and told.
set -u
untorn=$(readlink -f "$1") extension=$(readlink -f "$2") scripts=$(dirname "$(readlink -f "$3")")
default=${extension%.so}_default.so preload=${extension%.so}_preload.so
cd "$(mktemp -d)" || exit 1
trap 'rm -rf "$PWD"' EXIT
python=/usr/bin/python3  # Debian's, which has Debian's packages
ran=0 failed=0

# driver NAME CHECK COMMAND...: runs the command in a directory of its own, on a store that the first opening makes.
driver() {
  local name=$1 check=$2
  shift 2
  mkdir "$name" && cd "$name" || exit 1
  if ! bash -c "$check" >/dev/null 2>&1; then
    echo "skipped: $name: '$check' fails"
  elif ! "$@" >output 2>&1; then
    echo "FAILED: $name"
    cat output
    failed=$((failed + 1))
  elif ! "$untorn" fsck --quiet s.untorn >output 2>&1; then
    echo "FAILED: $name: fsck"
    cat output
    failed=$((failed + 1))
  else
    echo "passed: $name"
    ran=$((ran + 1))
  fi
  cd ..
}

driver python "true" "$python" "$scripts/python_driver.py" "$extension" s.untorn uri
driver python-default "true" \
  env UNTORN_STORE=s.untorn "$python" "$scripts/python_driver.py" "$default" s.untorn default
# A Python that cannot load extensions.
driver python-preload "true" \
  env UNTORN_STORE=s.untorn LD_PRELOAD="$preload" "$python" "$scripts/python_driver.py" none s.untorn default
driver sqlalchemy "$python -c 'import sqlalchemy'" "$python" "$scripts/sqlalchemy_driver.py" "$extension" s.untorn
driver django "$python -c 'import django'" "$python" "$scripts/django_driver.py" "$extension" s.untorn
driver perl "perl -MDBD::SQLite -e 1" perl "$scripts/perl_driver.pl" "$extension" s.untorn
driver node "node -e 'require(\"better-sqlite3\")'" \
  env UNTORN_STORE=s.untorn node "$scripts/node_driver.js" "$default"
echo "$ran drivers passed, $failed failed"
[[ $failed == 0 && $ran -ge 3 ]]
