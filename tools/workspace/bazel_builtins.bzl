"""Lets Debian's Bazel build C++ without fetching anything.

Before its first C++ rule Bazel 4 fetches repositories which, for C++, only
re-export what is built into it. bazel_builtins() puts equivalents in their
place. Every other Bazel is left alone; Debian's is told by its lack of a
version.
"""

_REPOSITORIES = {
    "rules_cc": {
        "cc/BUILD.bazel": "",
        "cc/defs.bzl": """\
cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
""",
    },
    "rules_java": {
        "java/BUILD.bazel": "",
        "java/defs.bzl": """\
java_import = native.java_import
java_runtime = native.java_runtime
java_toolchain = native.java_toolchain
""",
    },
    "remote_coverage_tools": {
        "BUILD.bazel": """\
package(default_visibility = ["//visibility:public"])

alias(
    name = "coverage_report_generator",
    actual = "@//tools/coverage:lcov_merger",
)

alias(
    name = "lcov_merger",
    actual = "@//tools/coverage:lcov_merger",
)
""",
    },
}

def _literal_repository_impl(ctx):
    for path, content in ctx.attr.files.items():
        ctx.file(path, content, executable = False)

_literal_repository = repository_rule(
    implementation = _literal_repository_impl,
    attrs = {"files": attr.string_dict(doc = "Contents by path.")},
)

def bazel_builtins():
    """Declares the repositories which Debian's Bazel would fetch."""
    if not native.bazel_version:
        for name, files in _REPOSITORIES.items():
            _literal_repository(name = name, files = files)
