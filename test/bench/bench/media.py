"""What contenders stand on: tmpfs, the disk, and a backing with a fixed delay.

A medium has a place for caches and makes backing files. Of `tmpfs+disk` caches
are on tmpfs and backing files on the disk: what a cache is for. So are those of
`slow`, whose backing device is a FUSE server that takes a fixed time for each
request, a few of them at once.
"""

import os

from bench import load, scope

NAMES = ("tmpfs", "disk", "tmpfs+disk", "slow")
TMPFS = "/dev/shm"


class Medium:
    """Directories for caches and for backing files. The latter are written
    once, so that no block is a hole or, on a disk, allocated but never written.
    """

    def __init__(self, name, directory, backing_directory=None):
        self.name = name
        self.directory = directory
        self.backing_directory = backing_directory or directory

    def backing(self, bench, cleanup, name, size):
        path = cleanup.file(os.path.join(self.backing_directory, name + ".img"))
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
    caches = cleanup.directory(TMPFS)
    if name == "slow":
        return SlowMedium(name, caches)
    return Medium(name, caches, cleanup.directory(options.directory)
                  if name == "tmpfs+disk" else None)
