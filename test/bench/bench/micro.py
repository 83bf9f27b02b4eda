"""Runs the micro-benchmarks and takes their figures into the report."""

import json

from bench import scope

# Of Google Benchmark.
PROGRAMS = ("test/meta/meta_benchmark",)
CORE = "test/bench/core_benchmark"


def run(bench):
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
        figure = {"name": each["name"], "ns": each["cpu_time"] * {
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
            figures.append({"name": name, "text": rest.strip()})
    return figures


def table(figures):
    rows = []
    for figure in figures:
        if "text" in figure:
            rows.append("  %-34s %s" % (figure["name"], figure["text"]))
            continue
        extra = ""
        if "items_per_second" in figure:
            extra += "  %.2f M/s" % (figure["items_per_second"] / 1e6)
        if "bytes_per_second" in figure:
            extra += "  %.2f GiB/s" % (figure["bytes_per_second"] / 2**30)
        if "bytes_per_entry" in figure:
            extra += "  %.1f bytes each" % figure["bytes_per_entry"]
        rows.append("  %-34s %.1f ns%s" % (figure["name"], figure["ns"], extra))
    return "Micro-benchmarks\n" + "\n".join(rows)
