"""What tools/bench does, from its arguments to its report.

plan.py      how long, how large       options.py   the command line
media.py     what it stands on         refusal.py   what is not measured
contenders.py  who is measured         scope.py     cleaning up
case.py      taking turns              load.py      fio
cases_*.py   what is measured          targets.py   what is to be reached
report.py    medians, tables, JSON     plot.py      SVG
micro.py     Google Benchmark          machine.py   facts of the machine
"""

import os
import shutil
import subprocess
import sys
import time

from bench import (cases_backing, cases_block, cases_durable, cases_filesystem,
                   cases_life, contenders, machine, media, micro, options, plan,
                   plot, refusal, report, scope)
from bench.case import run_case

CASES = (cases_block.CASES + cases_durable.CASES + cases_backing.CASES
         + cases_life.CASES + cases_filesystem.CASES)
PROGRAMS = ("tools/pcachefs", "tools/pcachectl", "test/bench/null_server")


class Bench:
    """What cases and contenders need to know of the run."""

    def __init__(self, opts, binaries):
        self.plan = plan.make(opts)
        self.settings = opts.settings
        self.binaries = binaries
        self.new_cache_files = False

    def binary(self, name):
        return os.path.join(self.binaries, name)


def programs(with_micro):
    return PROGRAMS + ((*micro.PROGRAMS, micro.CORE) if with_micro else ())


def check_binaries(directory, with_micro):
    for name in programs(with_micro):
        if not os.access(os.path.join(directory, name), os.X_OK):
            raise refusal.Refused("--binaries=%s: no %s there" % (directory,
                                                                  name))
    return directory


def build(root, with_micro):
    subprocess.run(["bazel", "build", "-c", "opt", "--noshow_progress",
                    "--ui_event_filters=-info", "--show_result=0"]
                   + ["//%s:%s" % os.path.split(t) for t in programs(with_micro)],
                   cwd=root, check=True)
    return os.path.join(root, "bazel-bin")


def available(chosen):
    """Those that can run here; says who is left out, and why."""
    has_uring = machine.first_line(machine.URING_SWITCH) in ("Y", "1")
    result = []
    for contender in chosen:
        missing = [p for p in contenders.PROGRAMS.get(contender.group, ())
                   if not shutil.which(p)]
        if missing:
            scope.warn("without %s: no %s (tools/setup --bench)" % (
                contender.name, missing[0]))
        elif contender.transport == "io_uring" and not has_uring:
            scope.warn("without %s: echo Y >%s" % (contender.name,
                                                   machine.URING_SWITCH))
        else:
            result.append(contender)
    return result


def schedule(opts):
    """[(medium name, case class)] by medium."""
    cases = options.select(opts.cases, CASES, lambda case: [case.name])
    pairs = [(name, case) for name in media.NAMES for case in cases
             if name in options.media_of(case, opts)]
    if not pairs and not opts.micro:
        raise refusal.Refused(
            "--cases=%s --media=%s: no case is measured there (of a flush on "
            "tmpfs nothing can be learnt)" % (opts.cases, ",".join(opts.media)))
    if any("disk" in name for name, _ in pairs):
        refusal.check_disk(opts.directory, *machine.filesystem(opts.directory))
    return pairs


def estimate(pairs, chosen, sizes):
    """Minutes, roughly: measurements, what is between them, setting up."""
    seconds = 0
    for _name, case_class in pairs:
        case = case_class(sizes)
        count = sum(c.group in case.groups for c in chosen)
        each = len(case.points()) * sizes.rounds
        seconds += count * (1 + each * (sizes.seconds + 0.4))
    return seconds / 60


def run_all(bench, opts, pairs, chosen, results, output):
    with scope.Scope() as cleanup:
        places = {}
        for name in dict.fromkeys(name for name, _ in pairs):
            places[name] = media.open_medium(name, cleanup, opts)
        for name, case_class in pairs:
            case = case_class(bench.plan)
            began = time.monotonic()

            def record(point, contender, result):
                results.add(name, case, point, contender.name, result)

            def problem(contender, error):
                text = "%s on %s, %s: %s" % (case.name, name, contender.name,
                                             error)
                results.problems.append(text)
                scope.warn(text)

            run_case(case, bench, places[name], chosen, record, problem)
            if any(key[:2] == (name, case.name) for key in results.samples):
                output("%s\n(%d s)\n" % (
                    report.case_table(results, name, case.name),
                    time.monotonic() - began))


def write_files(directory, results, facts, figures, text):
    with open(os.path.join(directory, "results.json"), "w") as file:
        file.write(report.to_json(results, facts, figures))
    with open(os.path.join(directory, "report.txt"), "w") as file:
        file.write(text)
    for medium, name in dict.fromkeys(key[:2] for key in results.samples):
        lines = plot.curves(results, medium, name)
        if plot.has_curves(lines):
            path = os.path.join(directory, "%s-%s.svg" % (name, medium))
            with open(path, "w") as file:
                file.write(plot.svg("%s, on %s" % (
                    results.cases[name].title, medium), lines))


def measure(root, opts):
    pairs = schedule(opts)
    refusal.check_environment(os.environ)
    chosen = available(options.select(opts.contenders, contenders.ALL,
                                      lambda c: [c.name, c.group]))
    if opts.list:
        for name, case in pairs:
            print("%-16s on %-6s %s" % (case.name, name, case.title))
        return 0
    if os.geteuid() != 0:
        raise refusal.Refused("want root: it mounts and makes loop devices")
    binaries = (check_binaries(opts.binaries, opts.micro) if opts.binaries
                else build(root, opts.micro))
    bench = Bench(opts, os.path.abspath(binaries))
    facts = machine.facts()
    results, figures, parts = report.Results(), [], []

    def output(words):
        parts.append(words)
        print(words, flush=True)

    output("Linux %(kernel)s, %(cores)d cores (%(processor)s), load "
           "%(load_at_start).2f" % facts)
    output("%g s a measurement, medians of %d rounds; about %d minutes\n" % (
        bench.plan.seconds, bench.plan.rounds,
        1 + estimate(pairs, chosen, bench.plan)))
    if facts["load_at_start"] > machine.BUSY:
        scope.warn("the load is above %g: figures will be noisy" % machine.BUSY)
    try:
        run_all(bench, opts, pairs, chosen, results, output)
        if opts.micro:
            try:
                figures = micro.run(bench)
                output(micro.table(figures) + "\n")
            except RuntimeError as error:
                results.problems.append(str(error))
                scope.warn(str(error))
    finally:
        facts["load_at_end"] = machine.load()
        output(report.targets_table(results.medians(), figures))
        output("Load at the end (with the benchmark's own): %.2f" %
               facts["load_at_end"])
        if opts.output:
            os.makedirs(opts.output, exist_ok=True)
            write_files(opts.output, results, facts, figures,
                        "\n".join(parts) + "\n")
    return 1 if results.problems else 0


def main(root, arguments):
    scope.heed_signals()
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # losetup, mkfs
    try:
        return measure(root, options.parse(arguments, CASES))
    except refusal.Refused as refused:
        print("bench: refused: %s" % refused, file=sys.stderr)
        return 2
