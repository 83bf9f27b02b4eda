"""Tests of the built programs, over real mounts."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def e2e_test(name, deps = [], data = [], tags = [], timeout = "moderate"):
    """A test of `name`.cc, started with the paths of both programs.

    It needs root, /dev/fuse and /dev/loop-control, hence not the sandbox. It is
    exclusive because two at once would only make each other slow: their
    timeouts are for a machine that runs one.

    Args:
      name: of the test and its source.
      deps: beside those that every such test has.
      data: files it reads, beside the programs.
      tags: beside those that every such test has.
      timeout: as of cc_test.
    """
    cc_test(
        name = name,
        size = "medium",
        timeout = timeout,
        srcs = [name + ".cc"],
        args = [
            "$(rootpath //tools:pcachefs)",
            "$(rootpath //tools:pcachectl)",
        ],
        data = data + [
            "//tools:pcachectl",
            "//tools:pcachefs",
        ],
        tags = tags + [
            "e2e",
            "exclusive",
            "local",
        ],
        deps = deps + [
            "//test/e2e/testing:outcome_matchers",
            "//test/e2e/testing:process",
            "//test/e2e/testing:programs",
            "//test/e2e/testing:served_cache",
            "//test/testing:status_matchers",
            "@system//:gmock",
            "@system//:gtest",
        ],
    )
