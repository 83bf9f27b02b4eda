"""ext4 on a loop device on the contender: an untar, and a database."""

import os
import random
import shutil
import sqlite3
import tarfile
import tempfile
import time

from bench import load, scope
from bench.case import SECONDS, Case, Point


class OnExt4(Case):
    """A no-op server keeps nothing, so it has no part in this. Nor has qemu
    7.2: an ext4 made on a loop device on its export is damaged."""

    media = ("tmpfs", "disk")
    groups = ("pcachefs", "nbdkit", "raw")
    baseline = "raw"

    def start(self, bench, cleanup, medium, contender):
        subject = super().start(bench, cleanup, medium, contender)
        device = cleanup.loop(subject.path)
        scope.run(["mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0",
                   device])
        mountpoint = subject.mounted = cleanup.directory(medium.directory)
        cleanup.mount(mountpoint)
        scope.run(["mount", device, mountpoint])
        return subject


class Untar(OnExt4):
    name = "untar"
    title = "ext4 over loop: untar of a generated tree, and sync"
    metric = SECONDS

    def points(self):
        return [Point("untar", "untar")]

    def start(self, bench, cleanup, medium, contender):
        self.archive = os.path.join(medium.directory, "tree.tar")
        if not os.path.exists(self.archive):
            make_archive(cleanup.file(self.archive), self.plan.tree_files)
        return super().start(bench, cleanup, medium, contender)

    def measure(self, subject, point):
        target = tempfile.mkdtemp(dir=subject.mounted)
        began = time.monotonic()
        scope.run(["tar", "-x", "-f", self.archive, "-C", target])
        scope.run(["sync", "--file-system", target])
        seconds = time.monotonic() - began
        shutil.rmtree(target)
        scope.run(["sync", "--file-system", subject.mounted])
        return {"seconds": seconds}


def make_archive(path, files):
    """Small files for the most part, as source trees have; always the same."""
    numbers = random.Random(7)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as tree:
        for i in range(files):
            directory = os.path.join(tree, "d%03d" % (i // 40))
            os.makedirs(directory, exist_ok=True)
            size = min(int(numbers.lognormvariate(8.5, 1.3)), 2**20)
            with open(os.path.join(directory, "f%05d" % i), "wb") as file:
                file.write(numbers.randbytes(size))
        with tarfile.open(path, "w") as archive:
            archive.add(tree, arcname="tree")


class Database(OnExt4):
    name = "database"
    title = "ext4 over loop: sqlite transactions; fio writes with fsync"
    media = ("disk", "tmpfs")

    def points(self):
        return [Point("sqlite", "commit", 1), Point("fsync", "sync", 1)]

    def measure(self, subject, point):
        path = os.path.join(subject.mounted, point.op)
        if point.op == "commit":
            return transactions(path, self.plan.seconds)
        return load.fio(path, self.plan.seconds, engine="psync", direct=0,
                        rw="randwrite", fsync=1, size="32M")


def transactions(path, seconds):
    """Durable ones, of one row each; the journal is kept, as servers have it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table if not exists t (id integer primary key, "
                       "payload blob)")
    payload = os.urandom(1000)
    latencies = []
    began = now = time.monotonic()
    while now < began + seconds:
        connection.execute("insert into t (payload) values (?)", (payload,))
        end = time.monotonic()
        latencies.append(end - now)
        now = end
    connection.close()
    latencies.sort()
    count = len(latencies)
    return {"iops": count / (now - began), "count": count,
            "mean_us": sum(latencies) / count * 1e6,
            "p99_us": latencies[int(count * 0.99)] * 1e6,
            "max_us": latencies[-1] * 1e6, "seconds": now - began}


CASES = (Untar, Database)
