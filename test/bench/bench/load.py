"""fio as the load generator: one job in, one measurement out."""

import json

from bench import scope

PERCENTILES = {"p50_us": "50.000000", "p99_us": "99.000000",
               "p999_us": "99.900000"}


def fio(path, seconds, engine="io_uring", **job):
    """Runs one job and returns its measurement.

    Keywords are fio's options with _ as it writes them (rw, bs, iodepth, size,
    io_size ...). Stops after `seconds`, or sooner where io_size is used up.
    """
    options = {
        "name": "job", "filename": path, "ioengine": engine, "direct": 1,
        "bs": "4k", "randrepeat": 0, "norandommap": 1, "thread": 1,
        "output-format": "json", "group_reporting": 1,
    }
    options.update(job)
    if seconds:
        options["runtime"] = "%dms" % (seconds * 1000)
        if "io_size" not in job:
            options["time_based"] = 1
    if not options["norandommap"]:
        del options["norandommap"]
    command = ["fio"] + ["--%s=%s" % item if item[1] != "" else "--" + item[0]
                         for item in options.items()]
    return measurement(scope.run(command))


def measurement(text):
    """Of fio's JSON: both directions together, latencies of the slower, or of
    the syncs."""
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"]:
        raise RuntimeError("fio: error %d" % job["error"])
    sides = [job[side] for side in ("read", "write") if job[side]["total_ios"]]
    if not sides:
        raise RuntimeError("fio did nothing")
    count = sum(side["total_ios"] for side in sides)
    result = {
        "iops": sum(side["iops"] for side in sides),
        "mib_s": sum(side["bw_bytes"] for side in sides) / 2**20,
        "count": count,
        "mean_us": sum(side["lat_ns"]["mean"] * side["total_ios"]
                       for side in sides) / count / 1000,
        "max_us": max(side["lat_ns"]["max"] for side in sides) / 1000,
        "seconds": max(side["runtime"] for side in sides) / 1000,
    }
    syncs = job.get("sync", {})
    timed = [side["clat_ns"] for side in sides]
    # Its total_ios is 0 where several jobs are reported as one.
    if syncs.get("lat_ns", {}).get("N"):
        # A write counts when it is durable; the wait for that is the longer.
        timed = [syncs["lat_ns"]]
        result["mean_us"] += syncs["lat_ns"]["mean"] / 1000
        result["max_us"] = syncs["lat_ns"]["max"] / 1000
    for name, key in PERCENTILES.items():
        values = [each.get("percentile", {}).get(key) for each in timed]
        if None not in values:
            result[name] = max(values) / 1000
    return result
