"""What a case is, and how its contenders take turns."""

import dataclasses
import time

from bench import scope

# The contenders by group, as most cases want them.
EVERYONE = ("null", "pcachefs", "qemu", "nbdkit", "raw")


@dataclasses.dataclass(frozen=True)
class Point:
    """One thing measured: `label` is its name in tables and targets."""

    label: str
    op: str = ""
    depth: int = 0


@dataclasses.dataclass(frozen=True)
class Metric:
    """What counts in a case; `unit` is for tables."""

    key: str
    unit: str
    more_is_better: bool = True


OPERATIONS = Metric("iops", "1/s")
BANDWIDTH = Metric("mib_s", "MiB/s")
SECONDS = Metric("seconds", "s", more_is_better=False)


class Case:
    """A subclass says what is prepared and what is measured.

    Each case sets its contenders up anew, all at once, and measures them in
    turn: round by round, point by point, the first one another each round.
    """

    name = ""
    title = ""
    metric = OPERATIONS
    media = ("tmpfs", "disk")  # the first is that of --quick
    groups = EVERYONE
    # The group that a contender is compared with, on its own transport if it
    # has one.
    baseline = "null"
    new_cache_files = False

    def __init__(self, plan):
        self.plan = plan

    def points(self):
        """In the order in which they are measured."""
        raise NotImplementedError

    def size(self):
        """Of the image."""
        return self.plan.image_size

    def cache_size(self):
        return self.plan.cache_size

    def start(self, bench, cleanup, medium, contender):
        """The subject, prepared."""
        return contender.start(bench, cleanup, medium, self.size(),
                               self.cache_size())

    def before(self, subject, point):
        """What must be so before each measurement; not timed."""

    def measure(self, subject, point):
        """Returns a dict with self.metric.key in it, at least."""
        raise NotImplementedError

    def after(self, subject, point):
        subject.settle()


def notes_of(before, after, seconds):
    """What the cache did meanwhile, from its counters."""
    grown = {key: after[key] - before[key] for key in after}
    notes = {}
    if grown.get("reads", 0) > 0:
        notes["hit_ratio"] = grown["read_hits"] / grown["reads"]
    if grown.get("writeback_bytes", 0) > 0:
        notes["writeback_mib_s"] = grown["writeback_bytes"] / seconds / 2**20
    if after.get("dirty_bytes"):
        notes["dirty_mib"] = after["dirty_bytes"] / 2**20
    if grown.get("write_waits", 0) > 0:
        notes["write_waits"] = grown["write_waits"]
    return notes


def run_case(case, bench, medium, contenders, record, problem):
    """Calls record(point, contender, measurement) for each one.

    One that fails is out of this case, the others go on: problem(contender,
    error).
    """
    bench.new_cache_files = case.new_cache_files
    with scope.Scope() as cleanup:
        subjects = []

        def attempt(contender, function, *arguments):
            try:
                return function(*arguments)
            except Exception as error:
                problem(contender, error)
                return None

        for contender in contenders:
            if contender.group in case.groups:
                subject = attempt(contender, case.start, bench, cleanup, medium,
                                  contender)
                if subject:
                    subjects.append((contender, subject))
        for number in range(bench.plan.rounds):
            for point in case.points():
                first = number % max(1, len(subjects))
                for pair in subjects[first:] + subjects[:first]:
                    result = attempt(pair[0], measure, case, pair[1], point)
                    if result:
                        record(point, pair[0], result)
                    else:
                        subjects.remove(pair)


def measure(case, subject, point):
    case.before(subject, point)
    counters = subject.counters()
    cpu = subject.cpu_seconds()
    began = time.monotonic()
    result = case.measure(subject, point)
    seconds = time.monotonic() - began
    cpu = subject.cpu_seconds() - cpu
    if result.get("count") and cpu > 0:
        result["cpu_us"] = cpu / result["count"] * 1e6
    result["notes"] = {**notes_of(counters, subject.counters(), seconds),
                       **result.get("notes", {})}
    case.after(subject, point)
    return result
