"""Who is measured: how each is set up over a file of a medium, and undone.

A contender's subject is a file (or loop device) that fio can run on. All are
told the same: the backing file on the medium, caches beside it.
"""

import json
import os

from bench import machine, media, refusal, scope

TRANSPORTS = ("dev_fuse", "io_uring")


class Subject:
    """One contender set up. Those without a cache have nothing to settle."""

    has_cache = False
    direct = 1  # O_DIRECT, where the case lets it be chosen

    def __init__(self, name, path, backing, servers=()):
        self.name = name
        self.path = path
        self.backing = backing
        self.servers = servers  # the processes that work for it

    def cpu_seconds(self):
        """Of its servers so far; what the kernel does for fio is not in it."""
        return sum(machine.cpu_seconds(server.pid) for server in self.servers)

    def settle(self):
        """Returns when nothing goes on in the background any more."""

    def hold_writeback(self):
        """Until settle: acknowledged writes are measured on their own."""

    def forget(self):
        """Nothing is cached any more."""

    def counters(self):
        """What grows while it works."""
        return {}


class PcachefsSubject(Subject):
    has_cache = True

    def __init__(self, name, path, backing, servers, mountpoint, pcachectl):
        super().__init__(name, path, backing, servers)
        self.mountpoint = mountpoint
        self.pcachectl = pcachectl

    def control(self, verb, *arguments):
        return scope.run([self.pcachectl, verb, self.mountpoint, *arguments])

    def stop(self):
        """Dirty data stays in the cache. The daemon may have died."""
        if scope.is_mounted(self.mountpoint):
            scope.run([self.pcachectl, "stop", "--force", self.mountpoint],
                      timeout=60)

    def status(self):
        status = json.loads(self.control("status", "--json"))
        return status.get("status", status)

    def image(self):
        return self.status()["images"][0]

    def set_rate(self, rate):
        self.control("set", "vm", "writeback_rate=" + rate)

    def hold_writeback(self):
        self.set_rate("4K")

    def settle(self):
        self.set_rate("0")
        self.control("drain")

    def forget(self):
        self.control("detach", "vm", "--drain")
        self.control("attach", "vm", self.backing)

    def counters(self):
        image = self.image()
        names = ("reads", "read_hits", "writeback_bytes", "write_waits",
                 "dirty_bytes")
        return {name: image[name] for name in names}


class Contender:
    """`group` is what --contenders and the cases select by."""

    def __init__(self, name, group, transport=None):
        self.name = name
        self.group = group
        self.transport = transport

    def start(self, bench, cleanup, medium, size, cache_size):
        """A subject of `size` bytes; its end is in `cleanup`."""
        backing = medium.backing(bench, cleanup, self.name, size)
        return Subject(self.name, backing, backing)


class Buffered(Contender):
    """The same file, written by way of the page cache as most programs do."""

    def start(self, bench, cleanup, medium, size, cache_size):
        subject = super().start(bench, cleanup, medium, size, cache_size)
        subject.direct = 0
        return subject


class NullServer(Contender):
    def start(self, bench, cleanup, medium, size, cache_size):
        mountpoint = os.path.join(medium.directory, self.name)
        server = media.start_null_server(bench, cleanup, mountpoint, size,
                                         ["--transport=" + self.transport])
        return Subject(self.name, os.path.join(mountpoint, "file"), None,
                       [server])


class Pcachefs(Contender):
    def start(self, bench, cleanup, medium, size, cache_size):
        backing = medium.backing(bench, cleanup, self.name, size)
        return self.serve(bench, cleanup, medium, backing, cache_size)

    def serve(self, bench, cleanup, medium, backing, cache_size):
        """Over a backing that is there, with the cache as it was left."""
        place = os.path.join(medium.directory, self.name)
        cache, mountpoint = place + ".cache", place + ".mnt"
        if not os.path.exists(cache):
            self.make_cache(bench, cleanup, cache, cache_size)
        os.makedirs(mountpoint, exist_ok=True)
        cleanup.undo("removing " + mountpoint, scope.remove_directory,
                     mountpoint)
        flags = ["--%s=%s" % item for item in bench.settings.items()]
        daemon = cleanup.process(
            [bench.binary("tools/pcachefs"), "--foreground",
             "--cache=" + cache, "--backing=vm=" + backing,
             "--transport=" + self.transport] + flags + [mountpoint],
            cleanup.file(place + ".log"))
        cleanup.mount(mountpoint)
        subject = PcachefsSubject(
            self.name, os.path.join(mountpoint, "vm"), backing, [daemon],
            mountpoint, bench.binary("tools/pcachectl"))
        scope.wait_until(lambda: os.path.exists(subject.path), self.name,
                         daemon, seconds=300)
        # In order where that works; an end by signal is as good, but later.
        cleanup.undo("stopping " + self.name, subject.stop)
        status = subject.status()
        refusal.check_status(status)
        if status["transport"] != self.transport:
            raise RuntimeError("%s: the transport is %s" % (
                self.name, status["transport"]))
        return subject

    def make_cache(self, bench, cleanup, cache, cache_size):
        """As it is after a while of use: each block of the file was written."""
        cleanup.file(cache)
        if not bench.new_cache_files:
            media.write_once(cache, cache_size)
        scope.run([bench.binary("tools/pcachectl"), "format", cache,
                   "--size=%d" % cache_size, "--force"])


class QemuExport(Contender):
    """qemu-storage-daemon: a raw file, exported by FUSE. Not a cache."""

    def start(self, bench, cleanup, medium, size, cache_size):
        backing = medium.backing(bench, cleanup, self.name, size)
        path = os.path.join(medium.directory, self.name)
        with open(cleanup.file(path), "w"):
            pass
        daemon = cleanup.process(
            ["qemu-storage-daemon", "--blockdev", "driver=file,node-name=raw,"
             "cache.direct=on,aio=io_uring,filename=" + backing,
             "--export", "type=fuse,id=export,node-name=raw,writable=on,"
             "mountpoint=" + path], cleanup.file(path + ".log"))
        cleanup.mount(path)
        scope.wait_until(lambda: scope.is_mounted(path), self.name, daemon)
        return Subject(self.name, path, backing, [daemon])


class NbdkitCache(Contender):
    """nbdkit's cache filter in writeback, caching reads too; seen by nbdfuse."""

    def start(self, bench, cleanup, medium, size, cache_size):
        backing = medium.backing(bench, cleanup, self.name, size)
        place = os.path.join(medium.directory, self.name)
        socket, log = place + ".socket", cleanup.file(place + ".log")
        server = cleanup.process(
            ["nbdkit", "--foreground", "--unix", cleanup.file(socket),
             "--filter=cache", "file", backing, "cache=writeback",
             "cache-on-read=true"], log,
            env=dict(os.environ, TMPDIR=medium.directory))
        scope.wait_until(lambda: os.path.exists(socket), "nbdkit", server)
        os.mkdir(place)
        cleanup.undo("removing " + place, os.rmdir, place)
        path = os.path.join(place, "file")
        client = cleanup.process(
            ["nbdfuse", "--connections", "4", path,
             "nbd+unix:///?socket=" + socket], log)
        cleanup.mount(place)
        scope.wait_until(lambda: os.path.exists(path), "nbdfuse", client)
        return Subject(self.name, path, backing, [server, client])


ALL = (
    [NullServer("null-" + t, "null", t) for t in TRANSPORTS]
    + [Pcachefs("pcachefs-" + t, "pcachefs", t) for t in TRANSPORTS]
    + [QemuExport("qemu", "qemu"), NbdkitCache("nbdkit", "nbdkit"),
       Contender("raw", "raw"), Buffered("buffered", "buffered")]
)
PROGRAMS = {"qemu": ("qemu-storage-daemon",), "nbdkit": ("nbdkit", "nbdfuse")}
