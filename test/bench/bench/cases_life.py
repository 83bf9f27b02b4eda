"""A daemon's start over a full cache; readers beside writeback."""

import time

from bench import load, scope
from bench.case import Case, Metric, Point


def round_up(value, unit):
    return -(-value // unit) * unit


class Replay(Case):
    """From the start of the program to the answer of the mount."""

    name = "replay"
    title = "restart of a daemon with many cached extents"
    metric = Metric("seconds", "s", more_is_better=False)
    media = ("tmpfs", "disk")
    groups = ("pcachefs",)
    baseline = ""

    def points(self):
        return [Point("%d keys" % self.plan.replay_keys, "replay")]

    def size(self):
        # Every other block of it stays empty, so that few neighbours merge.
        return round_up(2 * 4096 * self.plan.replay_keys, 16 * 2**20)

    def cache_size(self):
        return self.size()

    def start(self, bench, cleanup, medium, contender):
        """Each round needs a daemon of its own, hence a scope of its own."""
        place = cleanup.enter_context(scope.Scope())
        subject = contender.start(bench, place, medium, self.size(),
                                  self.cache_size())
        load.fio(subject.path, None, rw="randwrite", iodepth=16, norandommap=0,
                 size=self.size(), io_size=4096 * self.plan.replay_keys)
        subject.settle()
        subject.restart = lambda: self.restart(bench, cleanup, medium,
                                               contender, subject)
        return subject

    def restart(self, bench, cleanup, medium, contender, subject):
        subject.stop()
        scope.wait_until(lambda: not scope.is_mounted(subject.mountpoint),
                         "unmounting")
        began = time.monotonic()
        again = contender.serve(bench, cleanup, medium, subject.backing,
                                self.cache_size())
        return time.monotonic() - began, again.image()["replay"]

    def measure(self, subject, point):
        seconds, replay = subject.restart()
        result = {"seconds": seconds, "replay_seconds": replay["seconds"],
                  "keys": replay["keys"]}
        if replay["seconds"]:
            result["notes"] = {"keys_s": replay["keys"] / replay["seconds"]}
        return result


class Interference(Case):
    name = "interference"
    title = "4 KiB reads of hits at depth 4, idle and beside writeback"
    metric = Metric("p99_us", "us", more_is_better=False)
    media = ("slow", "tmpfs+disk", "disk")
    groups = ("pcachefs",)
    baseline = ""

    def points(self):
        return [Point("idle", "read", 4), Point("writeback", "read", 4)]

    def start(self, bench, cleanup, medium, contender):
        subject = super().start(bench, cleanup, medium, contender)
        load.fio(subject.path, None, rw="write", bs="1M", iodepth=4,
                 size=self.plan.hot_size)
        subject.settle()
        return subject

    def before(self, subject, point):
        if point.label == "idle":
            return
        subject.hold_writeback()
        load.fio(subject.path, None, rw="randwrite", iodepth=16, norandommap=0,
                 offset=self.plan.hot_size,
                 size=self.size() - self.plan.hot_size,
                 io_size=min(self.plan.burst,
                             self.size() - self.plan.hot_size))
        subject.set_rate("0")

    def measure(self, subject, point):
        """Only as long as there is something to write back."""
        result = load.fio(subject.path, self.plan.seconds, rw="randread",
                          iodepth=point.depth, size=self.plan.hot_size)
        if point.label == "writeback":
            result["notes"] = {"ended_early":
                               not subject.image()["dirty_bytes"]}
        return result


CASES = (Replay, Interference)
