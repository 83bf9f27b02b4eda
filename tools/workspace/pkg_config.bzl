"""Makes libraries of the system, as pkg-config knows them, cc_library targets."""

_HEADER = """\
load("@rules_cc//cc:defs.bzl", "cc_library")

package(default_visibility = ["//visibility:public"])
"""

_LIBRARY = """
cc_library(
    name = {name},
    hdrs = glob({hdrs}, allow_empty = True),
    defines = {defines},
    includes = {includes},
    linkopts = {linkopts},
)
"""

def _library(ctx, module):
    result = ctx.execute(["pkg-config", "--cflags", "--libs", module])
    if result.return_code:
        fail("pkg-config: " + result.stderr)

    defines = []
    includes = []
    linkopts = []
    for flag in result.stdout.strip().split(" "):
        if flag.startswith("-D"):
            defines.append(flag[2:])
        elif flag.startswith("-I"):
            # Bazel takes only headers that are within a repository.
            directory = str(ctx.path(flag[2:]))
            include = directory[1:].replace("/", "_")
            if not ctx.path(include).exists:
                ctx.symlink(directory, include)
            includes.append(include)
        elif flag.startswith("-L"):
            directory = ctx.path(flag[2:])
            linkopts.append("-L" + str(directory))

            # Without a shared library, a path of the machine that builds has no
            # place in the program.
            if [file for file in directory.readdir() if ".so" in file.basename]:
                linkopts.append("-Wl,-rpath," + str(directory))
        elif flag and (flag.startswith("-Wl,") or not flag.startswith("-W")):
            # Warnings are a matter of the code that is built.
            linkopts.append(flag)

    return _LIBRARY.format(
        name = repr(module),
        hdrs = repr([include + "/**" for include in includes]),
        defines = repr(defines),
        includes = repr(includes),
        linkopts = repr(linkopts),
    )

def _pkg_config_impl(ctx):
    libraries = [_library(ctx, module) for module in ctx.attr.modules]
    ctx.file("BUILD.bazel", _HEADER + "".join(libraries), executable = False)

pkg_config = repository_rule(
    implementation = _pkg_config_impl,
    doc = "A repository with a cc_library named after each module.",
    attrs = {"modules": attr.string_list(mandatory = True)},
    # What tools/setup builds keeps its place when it changes; PCACHEFS_DEPS tells
    # the change.
    environ = [
        "PCACHEFS_DEPS",
        "PKG_CONFIG_PATH",
    ],
    local = True,
)
