"""Where the backing device sets the pace: misses, a full cache, a drain."""

import time

from bench import load
from bench.case import Case, Point

MIB = 2**20


class Cold(Case):
    name = "cold"
    title = "4 KiB random reads, none of them cached"
    media = ("slow", "tmpfs+disk", "disk")
    groups = ("pcachefs", "raw")
    baseline = "raw"

    def points(self):
        return [Point("read d1", "read", 1), Point("read d16", "read", 16)]

    def before(self, subject, point):
        subject.forget()

    def measure(self, subject, point):
        # Each block once, or it would be a hit.
        return load.fio(subject.path, self.plan.seconds, rw="randread",
                        iodepth=point.depth, norandommap=0,
                        randseed=time.monotonic_ns() % 2**31,
                        size=self.plan.image_size,
                        io_size=self.plan.image_size)


class Full(Case):
    """Random writes over far more than the cache holds, which is dirty."""

    name = "full"
    title = "4 KiB random writes, depth 32, the cache full of dirty data"
    media = ("slow", "tmpfs+disk", "disk")
    groups = ("pcachefs", "raw")
    baseline = "raw"

    def points(self):
        return [Point("write d32", "write", 32)]

    def cache_size(self):
        return self.plan.small_cache

    def before(self, subject, point):
        if subject.has_cache:
            # As long as it takes to be full for as long again.
            load.fio(subject.path, self.plan.fill_seconds, rw="randwrite",
                     iodepth=32, size=self.size(), io_size=3 * self.cache_size())

    def measure(self, subject, point):
        return load.fio(subject.path, self.plan.long_seconds, rw="randwrite",
                        iodepth=32, size=self.size())


class Drain(Case):
    name = "drain"
    title = "random 4 KiB dirty data written back, beside io_uring at depth 32"
    media = ("slow", "tmpfs+disk", "disk")
    groups = ("pcachefs", "raw")
    baseline = "raw"

    def points(self):
        return [Point("drain", "write", 32)]

    def job(self, depth):
        return {"rw": "randwrite", "iodepth": depth, "norandommap": 0,
                "randseed": time.monotonic_ns() % 2**31, "size": self.size(),
                "io_size": self.plan.drain_size}

    def before(self, subject, point):
        subject.hold_writeback()
        if subject.has_cache:
            load.fio(subject.path, None, **self.job(16))

    def measure(self, subject, point):
        if not subject.has_cache:
            return load.fio(subject.path, None, end_fsync=1, **self.job(32))
        dirty = subject.image()["dirty_bytes"]
        began = time.monotonic()
        subject.control("drain")
        seconds = time.monotonic() - began
        return {"iops": dirty / 4096 / seconds, "mib_s": dirty / MIB / seconds,
                "seconds": seconds}


CASES = (Cold, Full, Drain)
