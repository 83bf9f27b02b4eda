"""Writes that must survive a power cut before the next one begins."""

from bench import load
from bench.case import Case, Point
from bench.cases_block import OnLoop


class Sync(Case):
    """Jobs write and fdatasync one block after the other; all on one file."""

    name = "sync"
    title = "4 KiB random write + fdatasync; the cache file's blocks are written"
    # On tmpfs a barrier costs nothing, and is worth nothing.
    media = ("disk",)
    groups = ("pcachefs", "qemu", "nbdkit", "raw", "buffered")
    baseline = "raw"

    def points(self):
        return [Point("1 job", "sync", 1), Point("16 jobs", "sync", 16)]

    def measure(self, subject, point):
        return load.fio(subject.path, self.plan.seconds, engine="psync",
                        rw="randwrite", fdatasync=1, numjobs=point.depth,
                        direct=subject.direct,
                        size=self.plan.hot_size)


class SyncNew(Sync):
    name = "sync-new"
    title = "the same, with a cache file that is allocated but new"
    groups = ("pcachefs", "raw", "buffered")
    new_cache_files = True


class LoopSync(OnLoop, Sync):
    """The block layer joins the flushes of several jobs into one; those of a
    FUSE file wait for each other at the file's lock in the kernel."""

    name = "loop-sync"
    title = "4 KiB random write + fdatasync, over loop"
    media = ("disk",)
    groups = ("pcachefs", "qemu", "nbdkit", "raw")


CASES = (Sync, SyncNew, LoopSync)
