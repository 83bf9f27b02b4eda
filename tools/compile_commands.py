#!/usr/bin/env python3
"""Writes compile_commands.json, for clangd and clang-tidy, from what Bazel runs.

Usage: tools/compile_commands.py [option of bazel]...
"""

import json
import os
import subprocess
import sys


def bazel(*args):
    return subprocess.run(
        ["bazel", *args], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def main():
    options = sys.argv[1:]
    workspace = bazel("info", "workspace").strip()
    external = bazel("info", "output_base").strip() + "/external/"
    actions = json.loads(
        bazel("aquery", *options, "--output=jsonproto", "--include_artifacts=false",
              'mnemonic("CppCompile", //...)')
    )["actions"]

    commands = []
    for action in actions:
        arguments = [
            argument.replace("external/", external, 1)
            if argument.startswith(("external/", "-Iexternal/"))
            else argument
            for argument in action["arguments"]
        ]
        commands.append({
            "directory": workspace,
            "file": arguments[arguments.index("-c") + 1],
            "arguments": arguments,
        })

    with open(os.path.join(workspace, "compile_commands.json"), "w") as output:
        json.dump(commands, output, indent=1)


if __name__ == "__main__":
    main()
