"""Runs the micro-benchmarks and takes their figures into the report."""

import json
import re

from bench import scope

# Of Google Benchmark.
PROGRAMS = ("test/meta/meta_benchmark", "test/bench/micro/index_benchmark",
            "test/bench/micro/log_benchmark")
CORE = "test/bench/core_benchmark"


def run(bench):
    """Figures of all programs; one that fails raises RuntimeError."""
    figures = []
    seconds = bench.plan.micro_seconds
    for program in PROGRAMS:
        output = scope.run([bench.binary(program),
                            "--benchmark_format=json",
                            "--benchmark_min_time=%g" % seconds])
        figures += google(json.loads(output[output.index("{"):]))
    output = scope.run([bench.binary(CORE),
                        "--extents=%d" % bench.plan.replay_keys])
    return figures + lines(output)


def google(document):
    figures = []
    for each in document["benchmarks"]:
        if each.get("run_type") == "aggregate":
            continue
        # With threads: how often, not for how long each of them computes.
        time = "real_time" if "real_time" in each["name"] else "cpu_time"
        figure = {"name": each["name"], "ns": each[time] * {
            "ns": 1, "us": 1e3, "ms": 1e6}[each["time_unit"]]}
        for key in ("items_per_second", "bytes_per_second", "bytes_per_entry"):
            if key in each:
                figure[key] = each[key]
        figures.append(figure)
    return figures


def lines(output):
    """core_benchmark's: a name, two spaces or more, figures."""
    figures = []
    for line in output.splitlines():
        name, _, rest = line.partition("  ")
        if rest:
            figure = {"name": name, "text": rest.strip()}
            keys = re.search(r"([\d.]+) M keys/s", rest)
            size = re.search(r"([\d.]+) bytes", rest)
            if keys:
                figure["items_per_second"] = float(keys[1]) * 1e6
            if size:
                figure["bytes_per_entry"] = float(size[1])
            figures.append(figure)
    return figures


def table(figures):
    rows = []
    for figure in figures:
        text = figure.get("text", "")
        if not text and "items_per_second" in figure:
            text = "%.1f ns each, %.2f M/s" % (
                1e9 / figure["items_per_second"],
                figure["items_per_second"] / 1e6)
        elif not text:
            text = "%.1f ns" % figure["ns"]
        if "bytes_per_second" in figure:
            text += ", %.2f GiB/s" % (figure["bytes_per_second"] / 2**30)
        if "bytes_per_entry" in figure and "text" not in figure:
            text += ", %.1f bytes each" % figure["bytes_per_entry"]
        rows.append((figure["name"], text))
    width = max(len(name) for name, _ in rows)
    return "Micro-benchmarks\n" + "\n".join(
        "  %-*s  %s" % (width, *row) for row in rows)
