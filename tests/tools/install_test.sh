#!/bin/bash
# What tools/install puts under a prefix is enough for programs outside: in C and C++ by pkg-config and by CMake, and in
# Python; there is a man page for each command, and completion knows all commands and options.
set -u
untorn=$(readlink -f "$1") install=$(readlink -f "$2") cpp=$(readlink -f "$3")
root=$(dirname "$(dirname "$install")")
cd "$(mktemp -d)" || exit 1
trap 'rm -rf "$PWD"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

(umask 077 && python3 "$install" "$PWD/there" "$root" "$(dirname "$(dirname "$untorn")")") >told || fail "install: $(cat told)"
[[ -z $(find there ! -perm -o=r) ]] || fail "not everybody can read $(find there ! -perm -o=r)"
export PKG_CONFIG_PATH=$PWD/there/lib/pkgconfig PATH=$PWD/there/bin:$PATH PYTHONDONTWRITEBYTECODE=1
version=$(untorn --version | awk '{print $NF}')
[[ $(pkg-config --modversion untorn) == "$version" ]] || fail "pkg-config has version $(pkg-config --modversion untorn)"

# ---- C and C++, by pkg-config ----
rpath=-Wl,-rpath,$PWD/there/lib
cc -std=c17 there/share/doc/untorn/examples/pages.c $(pkg-config --cflags --libs untorn) "$rpath" -o c_program ||
  fail "a program in C is not built"
./c_program c.untorn 20 | grep -q 'the sum is right' || fail "a program in C"
c++ "$cpp" $(pkg-config --cflags --libs untorn-cpp) "$rpath" -o cpp_program || fail "a program in C++ is not built"
./cpp_program cpp.untorn || fail "a program in C++"
[[ $(untorn ls cpp.untorn) == *object* ]] || fail "ls: $(untorn ls cpp.untorn)"
rm cpp.untorn
cc -std=c17 there/share/doc/untorn/examples/pages.c $(pkg-config --cflags --libs untorn-static) -o c_static ||
  fail "a program in C is not built with the static library"
./c_static c_static.untorn 20 | grep -q 'the sum is right' || fail "a program in C with the static library"
rm c_static.untorn
c++ -std=c++20 "$cpp" $(pkg-config --cflags --libs untorn-static) -o cpp_static || fail "C++ with the static library"
./cpp_static cpp.untorn || fail "a program in C++ with the static library"
readelf -d cpp_static | grep -q 'libuntorn' && fail "the static library was not taken"

# ---- The same by CMake ----
cat >CMakeLists.txt <<END
cmake_minimum_required(VERSION 3.18)
project(outside C CXX)
find_package(untorn 0.1 REQUIRED)
add_executable(c_cmake there/share/doc/untorn/examples/pages.c)
target_link_libraries(c_cmake untorn::c)
add_executable(cpp_cmake $cpp)
target_link_libraries(cpp_cmake untorn::untorn)
add_executable(c_cmake_static there/share/doc/untorn/examples/pages.c)
target_link_libraries(c_cmake_static untorn::static)
END
{ cmake -S . -B build -DCMAKE_PREFIX_PATH="$PWD/there" && cmake --build build; } >cmake.log 2>&1 || fail "$(tail -20 cmake.log)"
build/c_cmake c.untorn 20 | grep -q 'the sum is right' || fail "CMake, C"
build/c_cmake_static c_static.untorn 20 | grep -q 'the sum is right' || fail "CMake, C with the static library"
rm cpp.untorn && build/cpp_cmake cpp.untorn || fail "CMake, C++"

# ---- Python and SQLite ----
PYTHONPATH=$(echo "$PWD"/there/lib/python3.*/dist-packages) python3 -c '
import untorn
with untorn.open("c.untorn") as store:
    print([o.name for o in store], untorn.version())' >told || fail Python
[[ $(cat told) == "['pages'] $version" ]] || fail "Python: $(cat told)"
PYTHONPATH=$(echo "$PWD"/there/lib/python3.*/dist-packages) python3 -c '
import sqlite3, untorn
untorn.register_sqlite()
sqlite3.connect("file:python.db?vfs=untorn&store=sqlite.untorn", uri=True).execute("CREATE TABLE t(x)")' || fail "Python and SQLite"
sqlite3 -cmd ".load there/lib/untorn/untorn_sqlite" -cmd ".open 'file:app.db?vfs=untorn&store=sqlite.untorn'" :memory: \
  "CREATE TABLE t(x); INSERT INTO t VALUES(7)" || fail SQLite
[[ $(UNTORN_STORE=sqlite.untorn sqlite3 -cmd ".load there/lib/untorn/untorn_sqlite_default" -cmd ".open app.db" :memory: \
  "SELECT x FROM t") == 7 ]] || fail "SQLite by default"

# ---- Man pages and completion ----
commands=$(untorn help | sed -n '/^Commands:/,/^$/p' | awk '/^  / { print $1 }')
[[ $(wc -w <<<"$commands") -gt 15 ]] || fail "commands: $commands"
for command in $commands; do
  [[ $command == help ]] && continue
  page=there/share/man/man1/untorn-$command.1
  grep -q '^\.SH NAME' "$page" && grep -q '^\.SH OPTIONS' "$page" || fail "no page for $command"
  if command -v groff >/dev/null; then
    [[ -z $(groff -man -Tutf8 -ww -z "$page" 2>&1) ]] || fail "$page: $(groff -man -Tutf8 -ww -z "$page" 2>&1)"
  fi
done
complete() { # WORDS...: what completion offers for the last
  bash -c '. there/share/bash-completion/completions/untorn; compopt() { :; }
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _untorn; echo ${COMPREPLY[@]}' bash "$@"
}
[[ $(complete untorn fs) == fsck ]] || fail "completion of fs: $(complete untorn fs)"
[[ $(complete untorn help sc) == scrub ]] || fail "completion of help sc"
[[ $(complete untorn fsck --re) == --repair ]] || fail "completion of fsck --re: $(complete untorn fsck --re)"
[[ $(complete untorn create --si) == --size= ]] || fail "completion of create --si: $(complete untorn create --si)"
[[ $(complete untorn write --no-s) == --no-sync ]] || fail "completion of write --no-s: $(complete untorn write --no-s)"
[[ $(complete untorn fsck c.unt) == c.untorn ]] || fail "completion of files"

# ---- Once more, into a folder of a package ----
[[ -f package/usr/lib/python3/dist-packages/untorn/__init__.py ]] && fail "a package before it is made"
DESTDIR=package python3 "$install" /usr "$root" "$(dirname "$(dirname "$untorn")")" >told || fail "$(cat told)"
[[ -f package/usr/lib/python3/dist-packages/untorn/__init__.py ]] || fail "no Python package in /usr"
grep -q '^prefix=/usr$' package/usr/lib/pkgconfig/untorn.pc || fail "$(cat package/usr/lib/pkgconfig/untorn.pc)"
[[ -z $(grep -rIl "$PWD" package) ]] || fail "these tell where they were made: $(grep -rIl "$PWD" package)"
echo PASSED
