#!/usr/bin/env python3
"""Puts the built files of untorn under a prefix, with what other programs look for: pkg-config files, a CMake package, man
pages, and completion for bash and zsh. tools/install builds the files and calls this program.

    install_files.py PREFIX ROOT BINARIES [LIBDIR]

ROOT is the folder of the sources, and BINARIES that of what Bazel has built. LIBDIR is where libraries go under the prefix,
"lib" unless told. DESTDIR, from the environment, goes before PREFIX, and no file tells of it: packages are made in this way.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

HEADERS = ["c.h", "inspect.h", "metrics.h", "options.h", "store.h", "version.h"]
LIBRARY = "libuntorn.so.1"
STATIC_LIBRARY = "libuntorn.a"
# What pkg-config calls the libraries that untorn links, other than Abseil's.
MODULES_OF_PKG_CONFIG = {"uring": "liburing", "blkid": "blkid", "xxhash": "libxxhash"}
MODULES = ["sqlite/untorn_sqlite.so", "sqlite/untorn_sqlite_default.so", "sqlite/untorn_sqlite_preload.so",
           "rocksdb/untorn_rocksdb.so"]


def help_of(untorn, *command):
    return subprocess.run([untorn, "help", *command], check=True, stdout=subprocess.PIPE, text=True).stdout


def commands_of(untorn):
    """[(command, what it does)] in the order of `untorn help`."""
    part = help_of(untorn).split("\nCommands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  (\S+) +(.+)$", part, re.MULTILINE)


def options_of(text):
    """The options of a command, each once; --[no-]sync is two."""
    found = []
    for no, name in re.findall(r"^  --(\[no-\])?([a-z-]+=?)", text, re.MULTILINE):
        found += [f"--{name}"] + ([f"--no-{name}"] if no else [])
    return list(dict.fromkeys(found))


def man_page(title, version, what, text):
    """The help text as a man page. Headings such as "Options:" become sections, and their lines stay as they are."""
    def escape(line):
        line = line.replace("\\", "\\e").replace("-", "\\-")
        return "\\&" + line if line.startswith((".", "'")) else line

    usage, _, rest = text.partition("\n")
    out = [f'.TH {title.upper()} 1 "" "untorn {version}" "untorn"', ".SH NAME", escape(f"{title} - {what}"),
           ".SH SYNOPSIS", ".nf", escape(usage.replace("Usage: ", "")), ".fi", ".SH DESCRIPTION"]
    verbatim = False
    for line in rest.strip("\n").split("\n"):
        heading = re.fullmatch(r"([A-Z][A-Za-z ]+):", line)
        if heading:
            out += [".fi"] if verbatim else []
            out += [f".SH {heading[1].upper()}", ".nf"]
            verbatim = True
        elif verbatim:
            out.append(escape(line))
        else:
            out.append(escape(line) if line else ".PP")
    out += [".fi"] if verbatim else []
    if title == "untorn":
        out += [".SH SEE ALSO", "Each command has a page of its own, for example", escape("untorn-fsck(1).")]
    else:
        out += [".SH SEE ALSO", "untorn(1)"]
    return "\n".join(out) + "\n"


def bash_completion(options):
    cases = "\n".join(f"    {command}) options='{' '.join(each)}' ;;" for command, each in options.items())
    return f"""# Completion of untorn for bash.
_untorn() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} options=
  compopt +o nospace
  if [[ $COMP_CWORD == 1 || ( $COMP_CWORD == 2 && ${{COMP_WORDS[1]}} == help ) ]]; then
    mapfile -t COMPREPLY < <(compgen -W '{' '.join(options)}' -- "$word")
    return
  fi
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}}
complete -o filenames -F _untorn untorn
"""


def zsh_completion(commands, options):
    described = "\n".join("    '{}:{}'".format(name, what.replace("'", "'\\''").replace(":", "\\:"))
                          for name, what in commands)
    cases = "\n".join(f"    {command}) compadd -S '' -- {' '.join(each)} ;;" for command, each in options.items() if each)
    return f"""#compdef untorn
# Completion of untorn for zsh.
local -a commands=(
{described}
)
if (( CURRENT == 2 )) || [[ $CURRENT == 3 && $words[2] == help ]]; then
  _describe command commands
elif [[ $PREFIX == -* ]]; then
  case $words[2] in
{cases}
  esac
else
  _files
fi
"""


def main():
    if len(sys.argv) not in (4, 5):
        print("usage: install_files.py PREFIX ROOT BINARIES [LIBDIR]", file=sys.stderr)
        return 2
    libdir = sys.argv[4] if len(sys.argv) == 5 else "lib"
    prefix, root, binaries = pathlib.Path(sys.argv[1]).absolute(), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    destdir = os.environ.get("DESTDIR")
    destination = pathlib.Path((os.path.abspath(destdir) if destdir else "") + str(prefix))
    count = 0
    os.umask(0o022)  # for everybody to read

    def place(to, make):
        """Makes a file beside its place, and gives it its name when it is whole: a library in use stays as it is."""
        nonlocal count
        count += 1
        path = destination / to
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.unlink(missing_ok=True)
        make(new)
        os.replace(new, path)

    def copy(source, to, mode=0o644):
        def make(path):
            shutil.copyfile(source, path)
            path.chmod(mode)
        place(to, make)

    def write(text, to):
        place(to, lambda path: path.write_text(text))

    def link(target, to):
        place(to, lambda path: path.symlink_to(target))

    untorn = str((binaries / "tools/untorn").absolute())
    version = subprocess.run([untorn, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]

    # Where Debian's Python looks: in /usr in one folder for all versions, in /usr/local in one for each.
    major_minor = "3" if str(prefix) == "/usr" else f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = f"lib/python{major_minor}/dist-packages"

    copy(untorn, "bin/untorn", 0o755)
    for header in HEADERS:
        copy(root / "untorn" / header, f"include/untorn/{header}")
    copy(binaries / "integrations/c" / LIBRARY, f"{libdir}/{LIBRARY}")
    link(LIBRARY, f"{libdir}/libuntorn.so")
    copy(binaries / "integrations/c" / STATIC_LIBRARY, f"{libdir}/{STATIC_LIBRARY}")
    flags = (binaries / "integrations/c" / f"{STATIC_LIBRARY}.flags").read_text().split()
    needed = list(dict.fromkeys(flag[2:] for flag in flags if flag.startswith("-l")))
    others = [flag for flag in flags if not flag.startswith("-l")]
    for module in MODULES:
        copy(binaries / "integrations" / module, f"{libdir}/untorn/{pathlib.Path(module).name}")
    for file in ["__init__.py", "py.typed"]:
        copy(root / "integrations/python/untorn" / file, f"{packages}/untorn/{file}")
    copy(root / "LICENSE", "share/doc/untorn/LICENSE")
    copy(root / "README.md", "share/doc/untorn/README.md")
    copy(root / "CHANGELOG.md", "share/doc/untorn/CHANGELOG.md")
    copy(root / "examples/pages.c", "share/doc/untorn/examples/pages.c")

    places = f"prefix={prefix}\nlibdir=${{prefix}}/{libdir}\nincludedir=${{prefix}}/include\n\n"
    write(places + f"Name: untorn\nDescription: Store of objects whose writes are whole or not at all (C)\nVersion: {version}\n"
          "Cflags: -I\"${includedir}\"\nLibs: -L\"${libdir}\" -luntorn\n", f"{libdir}/pkgconfig/untorn.pc")
    write(places + f"Name: untorn-cpp\nDescription: Store of objects whose writes are whole or not at all (C++20)\n"
          f"Version: {version}\nRequires: untorn = {version}, absl_status, absl_statusor\nCflags: -std=c++20\n",
          f"{libdir}/pkgconfig/untorn-cpp.pc")
    modules = ", ".join(MODULES_OF_PKG_CONFIG.get(name, name) for name in needed)
    write(places + "Name: untorn-static\nDescription: Store of objects whose writes are whole or not at all (static library)\n"
          f"Version: {version}\nRequires: {modules}\nCflags: -I\"${{includedir}}\"\n"
          f"Libs: \"${{libdir}}/{STATIC_LIBRARY}\" {' '.join(others + ['-lstdc++', '-lm'])}\n",
          f"{libdir}/pkgconfig/untorn-static.pc")

    up = os.path.relpath(".", f"{libdir}/cmake/untorn")
    write(f"""# find_package(untorn): the targets untorn::c (untorn/c.h) and, with Abseil, untorn::untorn (untorn/store.h). untorn::static is the
# static library, for both.
get_filename_component(_untorn_prefix "${{CMAKE_CURRENT_LIST_DIR}}/{up}" ABSOLUTE)
if(NOT TARGET untorn::c)
  add_library(untorn::c SHARED IMPORTED)
  set_target_properties(untorn::c PROPERTIES
    IMPORTED_LOCATION "${{_untorn_prefix}}/{libdir}/{LIBRARY}"
    IMPORTED_SONAME "{LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${{_untorn_prefix}}/include")
endif()
find_package(absl QUIET)
if(absl_FOUND AND NOT TARGET untorn::untorn)
  add_library(untorn::untorn INTERFACE IMPORTED)
  set_target_properties(untorn::untorn PROPERTIES
    INTERFACE_LINK_LIBRARIES "untorn::c;absl::status;absl::statusor"
    INTERFACE_COMPILE_FEATURES cxx_std_20)
endif()
if(NOT TARGET untorn::static)
  add_library(untorn::static STATIC IMPORTED)
  set_target_properties(untorn::static PROPERTIES
    IMPORTED_LOCATION "${{_untorn_prefix}}/{libdir}/{STATIC_LIBRARY}"
    IMPORTED_LINK_INTERFACE_LANGUAGES CXX
    INTERFACE_INCLUDE_DIRECTORIES "${{_untorn_prefix}}/include"
    INTERFACE_LINK_LIBRARIES "{';'.join(needed + others)}")
endif()
unset(_untorn_prefix)
""", f"{libdir}/cmake/untorn/untornConfig.cmake")
    write(f"""set(PACKAGE_VERSION "{version}")
if(PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_FIND_VERSION STREQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
""", f"{libdir}/cmake/untorn/untornConfigVersion.cmake")

    commands = commands_of(untorn)
    options = {}
    write(man_page("untorn", version, "stores of objects whose writes are whole or not at all", help_of(untorn)),
          "share/man/man1/untorn.1")
    for command, what in commands:
        text = "" if command == "help" else help_of(untorn, command)
        options[command] = options_of(text)
        if text:
            write(man_page(f"untorn-{command}", version, what, text), f"share/man/man1/untorn-{command}.1")
    write(bash_completion(options), "share/bash-completion/completions/untorn")
    write(zsh_completion(commands, options), "share/zsh/site-functions/_untorn")
    print(f"{count} files are installed under {destination}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
