"""Facts of the machine that figures depend on."""

import os
import platform

BUSY = 0.5
URING_SWITCH = "/sys/module/fuse/parameters/enable_uring"


def first_line(path, default=""):
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return default


def load():
    return os.getloadavg()[0]


def available_bytes():
    with open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def processor():
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def cpu_seconds(pid):
    """User and system time of a process so far, in ticks of 10 ms."""
    # Its name, which may have blanks, is in parentheses.
    fields = first_line("/proc/%d/stat" % pid).rpartition(")")[2].split()
    if not fields:
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def facts():
    return {
        "kernel": platform.release(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_available": available_bytes(),
        "governor": first_line(
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "none"),
        "fuse_uring": first_line(URING_SWITCH, "none"),
        "load_at_start": load(),
    }


def filesystem(path):
    """(type, mount options) of what a path lies on."""
    best = ("", "", "")
    path = os.path.realpath(path)
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            words, _, rest = line.partition(" - ")
            mount = words.split()[4]
            below = path == mount or path.startswith(mount.rstrip("/") + "/")
            if below and len(mount) >= len(best[0]):
                kind, _source, options = rest.split()[:3]
                best = (mount, kind, words.split()[5] + "," + options)
    return best[1], best[2]
