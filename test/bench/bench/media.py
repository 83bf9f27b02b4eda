"""What contenders stand on: tmpfs, the disk, and a backing with a fixed delay.

A medium has a place for caches and makes backing files. Of `slow` the cache is
on tmpfs and the backing device a FUSE server that takes a fixed time for each
request, a few of them at once: what a cache is for.
"""

import os

from bench import load, scope

NAMES = ("tmpfs", "disk", "slow")
TMPFS = "/dev/shm"


class Medium:
    """A directory; backing files in it are written once, so that no block of
    theirs is a hole or, on a disk, allocated but never written."""

    def __init__(self, name, directory):
        self.name = name
        self.directory = directory

    def backing(self, bench, cleanup, name, size):
        path = cleanup.file(os.path.join(self.directory, name + ".img"))
        write_once(path, size)
        return path


class SlowMedium(Medium):
    def backing(self, bench, cleanup, name, size):
        mountpoint = os.path.join(self.directory, name + ".slow")
        start_null_server(bench, cleanup, mountpoint, size, [
            "--transport=dev_fuse", "--threads=40",
            "--service_us=%d" % bench.plan.slow_us,
            "--at_once=%d" % bench.plan.slow_at_once, "--fsync_us=2000"])
        return os.path.join(mountpoint, "file")


def start_null_server(bench, cleanup, mountpoint, size, flags):
    os.mkdir(mountpoint)
    cleanup.undo("removing " + mountpoint, os.rmdir, mountpoint)
    log = cleanup.file(mountpoint + ".log")
    server = cleanup.process(
        [bench.binary("test/bench/null_server"), "--size=%d" % size]
        + flags + [mountpoint], log)
    cleanup.mount(mountpoint)
    scope.wait_until(lambda: b"ready" in read(log),
                     "null_server (%s)" % mountpoint, server)
    return server


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write_once(path, size):
    load.fio(path, None, rw="write", bs="1M", iodepth=4, size=size,
             end_fsync=1, fallocate="none")


def open_medium(name, cleanup, options):
    if name == "disk":
        return Medium(name, cleanup.directory(options.directory))
    kind = SlowMedium if name == "slow" else Medium
    return kind(name, cleanup.directory(TMPFS))
