"""Tests with the names and defaults that all of them share."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def untorn_test(name, srcs = None, size = "small", deps = [], **kwargs):
    """A test with GoogleTest's main(): NAME.cc, small, unless told otherwise."""
    cc_test(
        name = name,
        srcs = srcs or [name + ".cc"],
        size = size,
        deps = deps + ["@gtest//:gtest_main"],
        **kwargs
    )
