"""The table of rooms: which folder may use which. layers_test.py compares the code with it.

    base <- device <- extent <- cow <- writeback <- store <- tools, demo, integrations, examples
    api (the public headers without behaviour) stands beside base
    inspect stands on extent; sim stands on device and is for tests only
"""

# The top-level folders of each room, and the rooms below it, from the ground up.
# Every file may include the headers of its own room and of the rooms below it.
ROOMS = {
    # room: (folders, rooms below)
    "base": (["base"], []),
    "device": (["device"], ["base"]),
    "extent": (["extent"], ["base", "device"]),
    "cow": (["cow"], ["base", "device", "extent"]),
    "writeback": (["writeback"], ["api", "base", "device", "extent", "cow"]),
    "store": (["store", "untorn"], ["api", "base", "device", "extent", "cow", "writeback"]),
    "inspect": (["inspect"], ["api", "base", "device", "extent"]),
    "tools": (["tools"], ["api", "base", "store", "inspect"]),
    "demo": (["demo"], ["api", "base", "store", "inspect"]),
    "integrations": (["integrations"], ["api", "base", "store", "inspect"]),
    "examples": (["examples"], ["api", "store", "integrations"]),
    # For tests only.
    "sim": (["sim"], ["base", "device"]),
    "bench": (["bench"], ["api", "base", "device", "store", "integrations", "sim"]),
    "tests": (
        ["tests"],
        ["api", "base", "device", "extent", "cow", "writeback", "store", "inspect", "tools", "demo",
         "integrations", "examples", "sim", "bench"],
    ),
}

# Files of the folder untorn/ that are in the room "api": plain enums, structs and declarations that any room
# may share with applications.
API_FILES = [
    "untorn/c.h",
    "untorn/inspect.h",
    "untorn/metrics.cc",
    "untorn/metrics.h",
    "untorn/options.cc",
    "untorn/options.h",
    "untorn/path_reason.cc",
    "untorn/path_reason.h",
    "untorn/version.h",
]

# The folder with the public targets. Targets there may forward to the rooms named here.
PUBLIC_FOLDER = "untorn"
FORWARDED = ["store", "inspect"]

# Packages whose default visibility is public: applications depend on them.
PUBLIC_PACKAGES = ["untorn", "integrations/c", "integrations/python", "integrations/rocksdb", "integrations/sqlite"]

# Rooms whose targets must be testonly, except for the rooms of tests themselves.
TEST_ONLY = ["sim"]
