"""Fuzz targets."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def fuzz_test(name, deps):
    """A fuzz target: `name`_fuzz_test.cc, and its corpus in corpus/`name`.

    `bazel test` replays the corpus; with --config=fuzz it is libFuzzer's.

    Args:
      name: of the source and the corpus.
      deps: beside those that every target has.
    """
    cc_test(
        name = name + "_fuzz_test",
        size = "small",
        srcs = [name + "_fuzz_test.cc"],
        args = ["test/fuzz/corpus/" + name],
        data = native.glob(["corpus/" + name + "/*"]),
        tags = ["fuzz"],
        deps = deps + [
            ":require",
            "//tools/fuzz:main",
        ],
    )
