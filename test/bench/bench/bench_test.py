#!/usr/bin/env python3
"""Of tools/bench: medians, ratios, targets, tables, plots, and refusals.

Nothing is measured here; figures are made up.
"""

import json
import os
import re
import sys
import unittest
import xml.etree.ElementTree

SOURCES = os.path.join(os.environ["TEST_SRCDIR"], os.environ["TEST_WORKSPACE"])
sys.path.insert(0, os.path.join(SOURCES, "test", "bench"))

from bench import (cases_block, cases_filesystem, cases_life, load,
                   machine, main, micro, options, plan, plot, refusal, report,
                   scope, targets)
from bench.case import Point, notes_of


def results_of(rows, case_class=cases_block.Hits):
    """Results from (medium, point, contender, iops) rows."""
    results = report.Results()
    case = case_class(plan.quick())
    for medium, point, contender, iops in rows:
        depth = int(point.rpartition("d")[2])
        results.add(medium, case, Point(point, "read", depth), contender, {
            "iops": iops, "mean_us": 1e6 / iops, "p99_us": 2e6 / iops,
            "max_us": 3e6 / iops})
    return results


TWO = [("tmpfs", "read d1", "null-dev_fuse", 100.0),
       ("tmpfs", "read d1", "null-dev_fuse", 300.0),
       ("tmpfs", "read d1", "null-dev_fuse", 110.0),
       ("tmpfs", "read d1", "pcachefs-dev_fuse", 99.0),
       ("tmpfs", "read d1", "pcachefs-dev_fuse", 10.0),
       ("tmpfs", "read d1", "pcachefs-dev_fuse", 120.0)]


class ReportTest(unittest.TestCase):

    def test_median_and_extremes(self):
        key = ("tmpfs", "hits", "read d1", "null-dev_fuse")
        median = results_of(TWO).medians()[key]
        self.assertEqual(median["value"], 110)
        self.assertEqual((median["low"], median["high"]), (100, 300))
        self.assertEqual(median["rounds"], 3)
        # Of the longest stall the worst round counts.
        self.assertEqual(median["max_us"], 3e6 / 100)

    def test_table_has_the_ratio_to_the_same_transport(self):
        rows = TWO + [("tmpfs", "read d1", "null-io_uring", 1000.0)]
        table = report.case_table(results_of(rows), "tmpfs", "hits")
        ours = [line for line in table.splitlines() if "pcachefs" in line]
        self.assertEqual(len(ours), 1)
        self.assertRegex(ours[0], r" 99 +10\.\.120 .* 0\.90  0\.03\.\.1\.09$")

    def test_base_without_its_transport(self):
        present = {"null-dev_fuse", "qemu", "pcachefs-io_uring"}
        hits = cases_block.Hits(plan.quick())
        self.assertEqual(report.baseline_of(hits, "qemu", present),
                         "null-dev_fuse")
        self.assertIsNone(report.baseline_of(hits, "null-dev_fuse", present))
        self.assertIsNone(report.baseline_of(hits, "qemu", {"qemu"}))
        replay = cases_life.Replay(plan.quick())
        self.assertIsNone(report.baseline_of(replay, "pcachefs-io_uring",
                                             present))

    def test_json(self):
        document = json.loads(report.to_json(results_of(TWO), {"cores": 2}, []))
        self.assertEqual(document["machine"], {"cores": 2})
        ours = [r for r in document["results"]
                if r["contender"] == "pcachefs-dev_fuse"]
        self.assertEqual([s["iops"] for s in ours[0]["rounds"]], [99, 10, 120])
        self.assertEqual(document["targets"][0]["met"], False)

    def test_notes(self):
        before = {"reads": 0, "read_hits": 0, "writeback_bytes": 2**20,
                  "write_waits": 5, "dirty_bytes": 0}
        after = {"reads": 100, "read_hits": 99, "writeback_bytes": 5 * 2**20,
                 "write_waits": 5, "dirty_bytes": 2**20}
        notes = notes_of(before, after, 2)
        self.assertEqual(notes, {"hit_ratio": 0.99, "writeback_mib_s": 2,
                                 "dirty_mib": 1})
        self.assertEqual(report.notes_text(notes),
                         "hits 99.0 %, writeback 2 MiB/s, "
                         "1 MiB dirty at the end")
        # A daemon that was restarted counts from the beginning.
        self.assertEqual(notes_of(after, before, 2), {})


def medians_of(figures):
    return {key: {"value": value, **more}
            for key, value, more in figures}


class TargetsTest(unittest.TestCase):

    def rows(self, *figures):
        return [(r["what"], round(r["ratio"], 3), r["met"])
                for r in targets.rows(medians_of(figures))]

    def test_each_transport_with_its_own_server(self):
        place = ("tmpfs", "hits", "read d1")
        rows = self.rows(
            ((*place, "null-dev_fuse"), 100, {}),
            ((*place, "null-io_uring"), 200, {}),
            ((*place, "pcachefs-dev_fuse"), 95, {}),
            ((*place, "pcachefs-io_uring"), 180, {}))
        self.assertEqual(rows, [
            ("pcachefs-dev_fuse / null-dev_fuse", 0.95, True),
            ("pcachefs-io_uring / null-io_uring", 0.9, False)])

    def test_the_better_transport_beside_peers(self):
        place = ("tmpfs", "hits", "read d16")
        rows = self.rows(((*place, "qemu"), 10, {}),
                         ((*place, "pcachefs-dev_fuse"), 39, {}),
                         ((*place, "pcachefs-io_uring"), 41, {}))
        self.assertEqual(rows, [("pcachefs-best / qemu", 4.1, True)])

    def test_longest_stall(self):
        place = ("slow", "full", "write d32", "pcachefs-dev_fuse")
        self.assertEqual(self.rows((place, 1, {"max_us": 99e3})),
                         [("pcachefs-dev_fuse longest, ms", 99, True)])
        self.assertEqual(self.rows((place, 1, {"max_us": 101e3})),
                         [("pcachefs-dev_fuse longest, ms", 101, False)])

    def test_latency_beside_writeback_and_idle(self):
        name = "pcachefs-dev_fuse"
        rows = self.rows((("slow", "interference", "idle", name), 10, {}),
                         (("slow", "interference", "writeback", name), 21, {}))
        self.assertEqual(rows, [(name, 2.1, False)])

    def test_cases_and_points_of_targets_exist(self):
        cases = {case.name: case(plan.Plan()) for case in main.CASES}
        for target in targets.TARGETS:
            labels = [p.label for p in cases[target.case].points()]
            self.assertIn(target.point, labels)
            self.assertLessEqual(set(target.media),
                                 set(cases[target.case].media))

    def test_nothing_measured(self):
        self.assertEqual(self.rows(), [])
        self.assertIn("No figure", report.targets_table({}))


class PlotTest(unittest.TestCase):

    def test_a_line_for_each_contender_in_both_panels(self):
        rows = [("tmpfs", "read d%d" % depth, name, 1000.0 * depth)
                for depth in (1, 4, 16) for name in ("raw", "qemu")]
        lines = plot.curves(results_of(rows), "tmpfs", "hits")
        self.assertTrue(plot.has_curves(lines))
        root = xml.etree.ElementTree.fromstring(plot.svg("<hits> & more", lines))
        polylines = root.findall("{http://www.w3.org/2000/svg}polyline")
        self.assertEqual(len(polylines), 4)
        width, height = (float(root.get(k)) for k in ("width", "height"))
        for line in polylines:
            places = [tuple(map(float, p.split(",")))
                      for p in line.get("points").split()]
            self.assertEqual(len(places), 3)
            for x, y in places:
                self.assertTrue(0 < x < width and 0 < y < height)

    def test_two_things_at_one_depth_are_no_curve(self):
        rows = [("tmpfs", label, "raw", 10.0) for label in ("a d4", "b d4")]
        lines = plot.curves(results_of(rows), "tmpfs", "hits")
        self.assertFalse(plot.has_curves(lines))

    def test_one_depth_is_no_curve(self):
        lines = plot.curves(results_of(TWO), "tmpfs", "hits")
        self.assertFalse(plot.has_curves(lines))
        plot.svg("still drawn", lines)


class FioTest(unittest.TestCase):

    def side(self, count, iops, mean):
        return {"total_ios": count, "iops": iops, "bw_bytes": iops * 4096,
                "runtime": 1000, "lat_ns": {"mean": mean, "max": mean * 9},
                "clat_ns": {"percentile": {"99.000000": mean * 3}}}

    def document(self, **more):
        return "fio: a warning\n" + json.dumps({"jobs": [{
            "error": 0, "read": self.side(0, 0, 0),
            "write": self.side(10, 10, 2000), **more}]})

    def test_idle_side_is_left_out(self):
        result = load.measurement(self.document())
        self.assertEqual((result["iops"], result["mean_us"], result["p99_us"],
                          result["max_us"]), (10, 2, 6, 18))

    def test_both_sides(self):
        result = load.measurement(self.document(read=self.side(30, 30, 4000)))
        self.assertEqual((result["iops"], result["mean_us"], result["p99_us"]),
                         (40, 3.5, 12))

    def test_waits_for_durability(self):
        result = load.measurement(self.document(sync={
            "total_ios": 0, "lat_ns": {
                "N": 10, "mean": 7000, "max": 8000,
                "percentile": {"99.000000": 7500}}}))
        self.assertEqual((result["mean_us"], result["p99_us"],
                          result["max_us"]), (9, 7.5, 8))

    def test_errors(self):
        with self.assertRaises(RuntimeError):
            load.measurement(self.document(error=5))
        with self.assertRaises(RuntimeError):
            load.measurement(self.document(write=self.side(0, 0, 0)))


class RefusalTest(unittest.TestCase):

    def refused(self, function, *arguments):
        with self.assertRaises(refusal.Refused) as caught:
            function(*arguments)
        self.assertNotIn("\n", str(caught.exception))
        return str(caught.exception)

    def parse(self, *arguments):
        return options.parse(list(arguments), main.CASES)

    def test_every_setting_of_the_daemon_is_judged(self):
        with open(os.path.join(SOURCES, "tools", "settings.cc")) as file:
            table = file.read().partition("kSettings[]")[2]
        names = re.findall(r'^    \{"(\w+)"', table, re.MULTILINE)
        self.assertIn("order", names)
        self.assertCountEqual(names, (*refusal.TUNABLE, *refusal.MANAGED,
                                      *refusal.REFUSED))

    def test_settings_that_weaken_a_promise(self):
        self.assertIn("strict", self.refused(self.parse, "--set=order=relaxed"))
        self.refused(self.parse, "--set=mode=writethrough")
        self.refused(self.parse, "--set=read_only_backing=true")
        self.refused(self.parse, "--set=unheard_of=1")
        self.refused(self.parse, "--set=cache=/elsewhere")
        self.refused(self.parse, "--set=threads")
        self.assertEqual(self.parse("--set=threads=4").settings,
                         {"threads": "4"})

    def test_libraries_that_are_loaded_before(self):
        self.refused(refusal.check_environment,
                     {"LD_PRELOAD": "libeatmydata.so"})
        refusal.check_environment({"LD_PRELOAD": "", "PATH": "/bin"})

    def test_a_disk_that_forgets(self):
        check = refusal.check_disk
        self.refused(check, "/dev/shm", "tmpfs", "rw")
        self.refused(check, "/mnt", "ext4", "rw,nobarrier")
        self.refused(check, "/mnt", "ext4", "rw,barrier=0")
        check("/mnt", "ext4", "rw,relatime,barrier=1")

    def test_a_daemon_that_keeps_less(self):
        image = {"name": "vm", "mode": "writeback", "order": "strict"}
        refusal.check_status({"images": [image]})
        self.refused(refusal.check_status,
                     {"images": [{**image, "order": "grouped"}]})
        self.refused(refusal.check_status,
                     {"images": [{**image, "mode": "writearound"}]})

    def test_flushes_on_tmpfs(self):
        self.refused(main.schedule,
                     self.parse("--cases=sync*", "--media=tmpfs"))
        self.refused(self.parse, "--media=floppy")

    def test_schedule(self):
        names = [(medium, case.name) for medium, case in main.schedule(
            self.parse("--cases=cold,hits", "--quick"))]
        self.assertEqual(names, [("tmpfs", "hits"), ("slow", "cold")])
        self.assertEqual(len(main.schedule(self.parse("--cases=hits"))), 2)


class ScopeTest(unittest.TestCase):

    def test_undoes_in_reverse_order_whatever_fails(self):
        done = []

        def fail():
            raise OSError("as meant by this test")

        with self.assertRaises(KeyError):
            with scope.Scope() as cleanup:
                cleanup.undo("first", done.append, 1)
                cleanup.undo("failing", fail)
                cleanup.undo("last", done.append, 3)
                raise KeyError("a case failed")
        self.assertEqual(done, [3, 1])

    def test_processes_and_files_are_gone(self):
        with scope.Scope() as cleanup:
            place = cleanup.directory(os.environ["TEST_TMPDIR"])
            log = os.path.join(place, "log")
            # One that has a child, and does not heed the first signal.
            process = cleanup.process(
                ["sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait; wait"],
                log)
            scope.wait_until(lambda: os.path.getsize(log) > 0, "child", process)
            with open(log) as file:
                child = int(file.read())
            scope.PATIENCE = 0.2
        self.assertIsNotNone(process.poll())
        self.assertFalse(os.path.exists(place))
        scope.wait_until(lambda: is_gone(child), "the end of the child")

    def test_a_command_that_fails_says_why(self):
        with self.assertRaisesRegex(RuntimeError, "exit code 3: so it is"):
            scope.run(["sh", "-c", "echo so it is >&2; exit 3"])

    def test_a_server_that_ends_early_is_not_waited_for(self):
        with scope.Scope() as cleanup:
            log = os.path.join(os.environ["TEST_TMPDIR"], "early")
            server = cleanup.process(["sh", "-c", "echo no mount; exit 1"], log)
            with self.assertRaisesRegex(RuntimeError, "server.*no mount"):
                scope.wait_until(lambda: False, "server", server)


def is_gone(pid):
    """Or waits to be buried by whoever has adopted it."""
    state = machine.first_line("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return not state or state[0] == "Z"


class MicroTest(unittest.TestCase):

    FIGURES = micro.google({"benchmarks": [
        {"name": "BM_A", "cpu_time": 2, "real_time": 3, "time_unit": "us",
         "items_per_second": 5e5},
        {"name": "BM_B/real_time", "cpu_time": 2, "real_time": 3,
         "time_unit": "ns", "bytes_per_second": 2.0**30},
        {"name": "BM_A_mean", "run_type": "aggregate"},
    ]}) + micro.lines("replay, one thread     4.90 M keys/s (51 ms)\n"
                      "memory per extent      20.9 bytes (5 entries)\n"
                      "4 KiB read hit         800 ns (1.2 M/s)\n")

    def test_table(self):
        self.assertEqual(micro.table(self.FIGURES).splitlines()[1:], [
            "  BM_A                2000.0 ns each, 0.50 M/s",
            "  BM_B/real_time      3.0 ns, 1.00 GiB/s",
            "  replay, one thread  4.90 M keys/s (51 ms)",
            "  memory per extent   20.9 bytes (5 entries)",
            "  4 KiB read hit      800 ns (1.2 M/s)"])

    def test_targets(self):
        self.assertEqual([(r["point"], r["met"]) for r in
                          targets.micro_rows(self.FIGURES)],
                         [("replay, one thread", False),
                          ("memory per extent", True)])


class TransactionsTest(unittest.TestCase):

    def test_counts_commits(self):
        path = os.path.join(os.environ["TEST_TMPDIR"], "database")
        result = cases_filesystem.transactions(path, 0.05)
        self.assertGreaterEqual(result["count"], 1)
        self.assertGreaterEqual(result["max_us"], result["p99_us"])


if __name__ == "__main__":
    unittest.main()
