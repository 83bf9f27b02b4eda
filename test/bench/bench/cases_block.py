"""Plain block loads: hits, writes, large ones, a mix; on the file or a loop."""

from bench import load
from bench.case import BANDWIDTH, Case, Point


def points_of(op, depths):
    return [Point("%s d%d" % (op, depth), op, depth) for depth in depths]


class Hits(Case):
    name = "hits"
    title = "4 KiB random reads of what is cached"

    def points(self):
        return points_of("read", self.plan.depths)

    def start(self, bench, cleanup, medium, contender):
        subject = super().start(bench, cleanup, medium, contender)
        # Both ways by which data comes in: in large pieces, then small ones.
        self.warm(subject)
        return subject

    def warm(self, subject):
        load.fio(subject.path, None, rw="write", bs="1M", iodepth=4,
                 size=self.plan.hot_size)
        load.fio(subject.path, None, rw="randwrite", iodepth=16, norandommap=0,
                 size=self.plan.hot_size, io_size=self.plan.hot_size // 4)
        subject.settle()

    def measure(self, subject, point):
        return load.fio(subject.path, self.plan.seconds, rw="randread",
                        iodepth=point.depth, size=self.plan.hot_size)


class Writes(Case):
    """Writeback is held back, and what is written is drained between runs."""

    name = "writes"
    title = "4 KiB random writes, acknowledged; writeback held back"
    holds = True

    def points(self):
        return points_of("write", self.plan.depths)

    def before(self, subject, point):
        if self.holds:
            subject.hold_writeback()

    def measure(self, subject, point):
        # No more than the cache takes in without waiting for the backing.
        return load.fio(subject.path, self.plan.seconds, rw="randwrite",
                        iodepth=point.depth, size=self.plan.hot_size,
                        io_size=self.plan.burst)


class WritesRunning(Writes):
    name = "writes-running"
    title = "4 KiB random writes while writeback runs on the same cores"
    holds = False


class Sequential(Writes):
    name = "sequential"
    title = "1 MiB sequential, depth 4; writeback held back"
    metric = BANDWIDTH

    def points(self):
        return [Point("write 1M", "write", 4), Point("read 1M", "read", 4)]

    def before(self, subject, point):
        if point.op == "read":
            load.fio(subject.path, None, rw="write", bs="1M", iodepth=4,
                     size=self.plan.hot_size)
            subject.settle()
        else:
            super().before(subject, point)

    def measure(self, subject, point):
        limit = {"io_size": self.plan.burst} if point.op == "write" else {}
        return load.fio(subject.path, self.plan.seconds, rw=point.op, bs="1M",
                        iodepth=point.depth, size=self.plan.hot_size, **limit)


class Zipf(Case):
    name = "zipf"
    title = "70 % reads, 30 % writes, Zipf 1.1, of twice what the cache holds"
    media = ("tmpfs", "disk", "slow")

    def points(self):
        return points_of("mix", [16])

    def cache_size(self):
        return self.plan.image_size // 2

    def measure(self, subject, point):
        return load.fio(subject.path, self.plan.seconds, rw="randrw",
                        rwmixread=70, random_distribution="zipf:1.1",
                        iodepth=point.depth, size=self.plan.image_size)


class OnLoop:
    """Mixed into a case: the same over a loop device with direct I/O."""

    media = ("tmpfs",)

    def start(self, bench, cleanup, medium, contender):
        subject = super().start(bench, cleanup, medium, contender)
        subject.path = cleanup.loop(subject.path)
        return subject


class LoopHits(OnLoop, Hits):
    name = "loop-hits"
    title = Hits.title + ", over loop"


class LoopWrites(OnLoop, Writes):
    name = "loop-writes"
    title = Writes.title + ", over loop"


class LoopSequential(OnLoop, Sequential):
    name = "loop-sequential"
    title = Sequential.title + ", over loop"


CASES = (Hits, Writes, WritesRunning, Sequential, Zipf, LoopHits, LoopWrites,
         LoopSequential)
