#!/usr/bin/env python3
"""Compares the sources and BUILD files with the table in rooms.py.

 1. Every #include of a project header leads to the file's own room or to a room below it.
 2. The default visibility of every package is exactly the rooms that may use it. A target's own visibility is
    narrower.
 3. Targets of rooms that are only for tests are testonly.

`bazel query` cannot run inside a test, so the test reads the BUILD files and the sources themselves. It finds
them by the real place of this file.
"""

import ast
import os
import pathlib
import re
import sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(os.path.realpath(__file__)).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import rooms  # noqa: E402

FOLDERS = {folder: room for room, (folders, _) in rooms.ROOMS.items() for folder in folders}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def room_of(path):
    """The room of a file or package, by its path from the root; None for what is not in a room."""
    if path in rooms.API_FILES:
        return "api"
    return FOLDERS.get(path.split("/")[0])


def may_use(room, other):
    return other == room or (room in rooms.ROOMS and other in rooms.ROOMS[room][1])


def check_includes(path, text):
    """Problems of one source file."""
    room = room_of(path)
    problems = []
    for header in INCLUDE.findall(text):
        other = room_of(header)
        if "/" not in header or other is None:
            continue  # of a library
        if not may_use(room, other):
            problems.append(f"{path} includes {header}: '{room}' may not use '{other}'")
    return problems


def rules_of(build_text):
    """(rule name, {attribute: value}) of every call in a BUILD file. Leaves out values that are no literals."""
    rules = []
    for node in ast.walk(ast.parse(build_text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        attributes = {}
        for keyword in node.keywords:
            try:
                attributes[keyword.arg] = ast.literal_eval(keyword.value)
            except ValueError:
                pass
        rules.append((node.func.id, attributes))
    return rules


def users_of(room):
    """The folders whose packages may use a room."""
    return {folder for folder, user in FOLDERS.items() if user != room and may_use(user, room)}


def wanted_visibility(package):
    if package in rooms.PUBLIC_PACKAGES:
        return {"//visibility:public"}
    room = room_of(package)
    folders = users_of(room) | {f for f, r in FOLDERS.items() if r == room and f != package.split("/")[0]}
    if room in rooms.FORWARDED:
        folders.add(rooms.PUBLIC_FOLDER)
    return {f"//{folder}:__subpackages__" for folder in folders}


def check_label(package, label):
    """A label of a target's own visibility: nobody whom the package's room does not allow."""
    if label in ("//visibility:private", "//visibility:public"):
        allowed = label.endswith("private") or package in rooms.PUBLIC_PACKAGES
    else:
        folder = label[2:].split(":")[0].split("/")[0]
        room = room_of(package)
        allowed = folder in users_of(room) or FOLDERS.get(folder) == room
        allowed = allowed or (room in rooms.FORWARDED and folder == rooms.PUBLIC_FOLDER)
        # The door between a public header and the room behind it.
        allowed = allowed or (package == rooms.PUBLIC_FOLDER and FOLDERS.get(folder) in rooms.FORWARDED)
        allowed = allowed or package in rooms.PUBLIC_PACKAGES
    return [] if allowed else [f"{package}/BUILD.bazel: a target may not be visible to {label}"]


def check_package(package, text):
    """Problems of one BUILD file."""
    room = room_of(package)
    problems = []
    default = None
    for rule, attributes in rules_of(text):
        if rule == "package":
            default = set(attributes.get("default_visibility", []))
        for label in attributes.get("visibility", []):
            problems += check_label(package, label)
        if rule.startswith("cc_") and room in rooms.TEST_ONLY and not attributes.get("testonly"):
            problems.append(f"{package}/BUILD.bazel: {attributes.get('name')} must be testonly")
    if room == "tests":  # Tests may keep their targets to themselves.
        if default is not None and default != {"//tests:__subpackages__"}:
            problems.append(f"{package}/BUILD.bazel: the default visibility must be //tests:__subpackages__")
        return problems
    wanted = wanted_visibility(package)
    if default != wanted:
        lines = ["the default visibility must be", *sorted(wanted), "but is", *sorted(default or ["private"])]
        problems.append(f"{package}/BUILD.bazel: " + "\n    ".join(lines))
    return problems


def check_checker():
    """The test must be able to fail."""
    planted = check_includes("cow/planted.h", '#include "cow/a.h"\n#include "writeback/engine.h"\n')
    assert len(planted) == 1 and "'cow' may not use 'writeback'" in planted[0], planted
    assert check_includes("writeback/a.h", '#include "untorn/options.h"\n#include "absl/a.h"\n') == []
    assert len(check_includes("writeback/a.h", '#include "untorn/store.h"\n')) == 1
    assert len(check_includes("inspect/a.cc", '#include "cow/cow_fork.h"\n')) == 1
    assert len(check_includes("extent/a.cc", '#include "sim/simulated_device.h"\n')) == 1
    assert len(check_package("extent", 'package(default_visibility = ["//tools:__subpackages__"])')) == 1
    assert len(check_package("tests/x", 'cc_test(name = "t", visibility = ["//cow:__pkg__"])')) == 1
    assert len(check_package("sim", 'cc_library(name = "s")')) == 2


def main():
    check_checker()
    problems = []
    files = packages = 0
    for folder in sorted(FOLDERS):
        if not (ROOT / folder).is_dir():
            continue
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in (".h", ".cc"):
                files += 1
                problems += check_includes(name, path.read_text())
            elif path.name == "BUILD.bazel":
                packages += 1
                problems += check_package(path.parent.relative_to(ROOT).as_posix(), path.read_text())
    for problem in problems:
        print(problem)
    print(f"{files} files, {packages} packages, {len(problems)} problems")
    assert files > 200 and packages > 20, f"the sources are not at {ROOT}"
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
