"""The ratios that pcachefs is to reach, and whether a run shows them.

Each row is a quotient of two medians of one run. `{t}` stands for a transport,
and makes a row for each; `best` takes the better one of the transports.
"""

import dataclasses

from bench.contenders import TRANSPORTS


@dataclasses.dataclass(frozen=True)
class Target:
    case: str
    point: str
    media: tuple
    above: str  # contender whose figure is divided
    below: str  # by which it is divided; "" for the figure itself
    limit: float
    key: str = ""  # of the measurement; "": the case's metric
    at_most: bool = False
    point_below: str = ""  # of the divisor, if another
    scale: float = 1


def of_both(cases, points, media, above, below, limit):
    return [Target(c, p, media, above, below, limit)
            for c in cases for p in points]


# With a cache on the very disk that is behind it, fills compete with the misses
# they are of: reported, but no target.
TMPFS, DISK, BACKINGS = ("tmpfs",), ("disk",), ("tmpfs+disk", "slow")
OURS, NULL = "pcachefs-{t}", "null-{t}"

TARGETS = (
    of_both(["hits"], ["read d1", "read d16"], TMPFS, OURS, NULL, 0.95)
    + of_both(["writes", "writes-running"], ["write d1", "write d16"], TMPFS,
              OURS, NULL, 0.90)
    + of_both(["sequential"], ["read 1M"], TMPFS, OURS, NULL, 0.90)
    + of_both(["sequential"], ["write 1M"], TMPFS, OURS, NULL, 0.70)
    + of_both(["loop-hits"], ["read d1", "read d16"], TMPFS, OURS, NULL, 0.95)
    + of_both(["loop-writes"], ["write d1", "write d16"], TMPFS, OURS, NULL,
              0.90)
    + of_both(["loop-sequential"], ["read 1M"], TMPFS, OURS, NULL, 0.95)
    + of_both(["loop-sequential"], ["write 1M"], TMPFS, OURS, NULL, 0.90)
    + of_both(["sync"], ["1 job"], DISK, OURS, "raw", 0.95)
    + of_both(["sync"], ["16 jobs"], DISK, OURS, "raw", 1.5)
    + of_both(["cold"], ["read d1"], BACKINGS, OURS, "raw", 0.85)
    + of_both(["cold"], ["read d16"], BACKINGS, OURS, "raw", 0.90)
    + of_both(["drain"], ["drain"], BACKINGS, OURS, "raw", 0.95)
    + of_both(["full"], ["write d32"], BACKINGS, OURS, "raw", 0.90)
    + [Target("full", "write d32", BACKINGS, OURS, "", 100, key="max_us",
              at_most=True, scale=1e-3)]
    + of_both(["hits"], ["read d16"], TMPFS, "pcachefs-best", "qemu", 4)
    + of_both(["writes"], ["write d16"], TMPFS, "pcachefs-best", "qemu", 4)
    + of_both(["hits"], ["read d16"], TMPFS, "pcachefs-best", "nbdkit", 9)
    + of_both(["writes"], ["write d16"], TMPFS, "pcachefs-best", "nbdkit", 9)
    + [Target("interference", "writeback", BACKINGS, OURS, OURS, 2,
              at_most=True, point_below="idle")]
)


def rows(medians):
    """A dict for each target that the run has both figures of.

    `medians`: {(medium, case, point, contender): {key: median}}, each with the
    case's metric under the key "value".
    """
    for target in TARGETS:
        for transport in TRANSPORTS:
            above = target.above.replace("{t}", transport)
            below = target.below.replace("{t}", transport)
            for medium in target.media:
                ratio = quotient(medians, target, medium, above, below)
                if ratio is not None:
                    yield row(target, medium, above, below, ratio)
            if above == target.above:
                break  # it has no transport to stand for


def micro_rows(figures):
    """Of core_benchmark's figures, as micro.py has them."""
    for figure in figures:
        if figure["name"].startswith("replay") and "items_per_second" in figure:
            yield micro_row(figure["name"], "M keys/s", ">= 5",
                            figure["items_per_second"] / 1e6,
                            figure["items_per_second"] >= 5e6)
        elif figure["name"].startswith("memory per extent"):
            yield micro_row(figure["name"], "bytes", "<= 24",
                            figure["bytes_per_entry"],
                            figure["bytes_per_entry"] <= 24)


def micro_row(name, unit, limit, value, met):
    return {"medium": "tmpfs", "case": "micro", "point": name, "what": unit,
            "limit": limit, "ratio": value, "met": met}


def row(target, medium, above, below, ratio):
    met = ratio <= target.limit if target.at_most else ratio >= target.limit
    what = above + (" / " + below if below else " longest, ms")
    point = target.point
    if target.point_below:
        what, point = above, point + " / " + target.point_below
    return {"medium": medium, "case": target.case, "point": point,
            "what": what, "limit": ("<= " if target.at_most else ">= ")
            + "%g" % target.limit, "ratio": ratio, "met": met}


def quotient(medians, target, medium, above, below):
    key = target.key or "value"
    upper = figure(medians, (medium, target.case, target.point), above, key)
    if upper is None:
        return None
    upper *= target.scale
    if not below:
        return upper
    point = target.point_below or target.point
    lower = figure(medians, (medium, target.case, point), below, key)
    return upper / lower if lower else None


def figure(medians, place, contender, key):
    if contender != "pcachefs-best":
        return medians.get((*place, contender), {}).get(key)
    values = [figure(medians, place, "pcachefs-" + t, key) for t in TRANSPORTS]
    return max((v for v in values if v is not None), default=None)
