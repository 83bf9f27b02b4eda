"""An aspect that runs clang-tidy over the C++ sources of the targets built."""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "CPP_COMPILE_ACTION_NAME")
load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def _flags(ctx, context):
    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(ctx = ctx, cc_toolchain = toolchain)
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = toolchain,
        user_compile_flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts + getattr(ctx.rule.attr, "copts", []),
        include_directories = context.includes,
        quote_include_directories = context.quote_includes,
        system_include_directories = context.system_includes,
        preprocessor_defines = context.defines,
    )
    return cc_common.get_memory_inefficient_command_line(
        feature_configuration = features,
        action_name = CPP_COMPILE_ACTION_NAME,
        variables = variables,
    )

def _clang_tidy_impl(target, ctx):
    if not ctx.rule.kind.startswith("cc_") or ctx.label.workspace_name:
        return []
    infos = [dep[CcInfo] for dep in ctx.rule.attr.deps]
    if CcInfo in target:
        infos.append(target[CcInfo])
    context = cc_common.merge_cc_infos(cc_infos = infos).compilation_context
    flags = _flags(ctx, context)

    reports = []
    for source in ctx.rule.files.srcs:
        if source.extension != "cc":
            continue
        report = ctx.actions.declare_file("%s.%s.clang_tidy" % (ctx.label.name, source.basename))
        ctx.actions.run_shell(
            mnemonic = "ClangTidy",
            inputs = depset([source, ctx.file._config], transitive = [context.headers]),
            outputs = [report],
            # On stderr it counts what it suppressed, also when all is well.
            command = 'clang-tidy --quiet "$2" -- "${@:3}" 2>"$1" || { cat "$1" >&2; exit 1; }',
            arguments = [report.path, source.path] + flags,
            use_default_shell_env = True,
        )
        reports.append(report)
    return [OutputGroupInfo(clang_tidy = depset(reports))]

clang_tidy = aspect(
    implementation = _clang_tidy_impl,
    attrs = {
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
        "_config": attr.label(default = "//:.clang-tidy", allow_single_file = True),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
