"""What may be tuned, and what is refused because it would weaken a promise.

A figure is worth nothing if it was bought with durability. Every setting of
the daemon (tools/settings.cc) is in one of three tables here; a test compares
them, so that a new one is judged before it can be used in a benchmark.
"""

# Changes speed or memory only.
TUNABLE = ("gc_percent", "max_dirty", "nbd_connections", "nbd_timeout",
           "read_ahead", "segment_size", "threads")

# Set by the cases themselves.
MANAGED = ("backing", "cache", "cache_size", "foreground", "image_cache_size",
           "transport")

# Why not.
REFUSED = {
    "allow_other": "who may look is no matter of speed",
    "failover": "a supervisor would outlive the daemons that are ended here",
    "metrics_listen": "ports of others may be meant",
    "mode": "another mode promises something else than the one compared",
    "order": "without strict order the backing device alone is not consistent",
    "planned_failover": "a supervisor, as with failover",
    "read_only": "nothing could be written",
    "read_only_backing": "writeback, part of the price of a write, is left out",
    "skip_missing": "an image that is missing cannot be measured",
}


class Refused(Exception):
    """One line that says what is refused, and why."""


def check_settings(settings):
    """Of --set: a dict of a daemon's flags."""
    for name, value in settings.items():
        if name in TUNABLE:
            continue
        reason = REFUSED.get(name, "set by the cases" if name in MANAGED else
                             "not known to be without effect on durability")
        raise Refused("--set=%s=%s: %s; want one of %s" % (
            name, value, reason, ", ".join(TUNABLE)))


def check_environment(environment):
    """A library that makes fsync do nothing would be of no use to anyone."""
    for name in ("LD_PRELOAD", "LD_AUDIT"):
        if environment.get(name):
            raise Refused("%s=%s: it could make fsync do nothing; unset it" % (
                name, environment[name]))


def check_disk(directory, kind, options):
    """The medium `disk` must be one that a power cut leaves as it was."""
    if kind in ("tmpfs", "ramfs"):
        raise Refused("--directory=%s: %s does not survive a power cut; "
                      "want a directory on a disk" % (directory, kind))
    for option in options.split(","):
        if option in ("nobarrier", "barrier=0", "data=writeback"):
            raise Refused("--directory=%s: mounted with %s, flushes there "
                          "promise less; want another directory" % (
                              directory, option))


def check_status(status):
    """What a daemon says of itself, as `pcachectl status --json` prints it."""
    for image in status["images"]:
        for name, wanted in (("mode", "writeback"), ("order", "strict")):
            if image[name] != wanted:
                raise Refused("image %s: %s is %s, want %s" % (
                    image["name"], name, image[name], wanted))
