"""Stands in for rules_cc: Debian's bazel-rules-cc is too new for Debian's Bazel, which has these rules built in.

A BUILD file that loads from @rules_cc//cc:defs.bzl also works with the real rules_cc.
"""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_proto_library = native.cc_proto_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
fdo_prefetch_hints = native.fdo_prefetch_hints
fdo_profile = native.fdo_profile
objc_library = native.objc_library
