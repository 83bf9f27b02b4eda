"""From measurements to medians, ratios, tables and JSON."""

import json
import statistics

from bench import targets


class Results:
    """All measurements of a run, by medium, case, point and contender."""

    def __init__(self):
        self.samples = {}  # (medium, case, point, contender): [measurement]
        self.cases = {}  # name: case
        self.points = {}  # (case name, label): Point
        self.problems = []

    def add(self, medium, case, point, contender, measurement):
        self.cases[case.name] = case
        self.points[case.name, point.label] = point
        key = (medium, case.name, point.label, contender)
        self.samples.setdefault(key, []).append(measurement)

    def medians(self):
        return {key: summary(self.cases[key[1]].metric, samples)
                for key, samples in self.samples.items()}


def summary(metric, samples):
    """Medians of every figure; of the case's own also the extremes."""
    result = {}
    for name in samples[0]:
        values = [s[name] for s in samples
                  if isinstance(s.get(name), (int, float))]
        if values:
            # The worst moment of all, not that of a usual round.
            result[name] = (max(values) if name == "max_us"
                            else statistics.median(values))
    values = [s[metric.key] for s in samples]
    result.update(value=statistics.median(values), low=min(values),
                  high=max(values), rounds=len(values))
    notes = [s.get("notes", {}) for s in samples]
    result["notes"] = {
        name: statistics.median(n.get(name, 0) for n in notes)
        for name in sorted(set().union(*notes))}
    return result


def baseline_of(case, contender, present):
    """Whom a contender is compared with: on its own transport if there is one."""
    if not case.baseline or contender.startswith(case.baseline):
        return None
    transport = contender.rpartition("-")[2]
    for name in ("%s-%s" % (case.baseline, transport), case.baseline,
                 case.baseline + "-dev_fuse"):
        if name in present:
            return name
    return None


def number(value, digits=4):
    """Short: so many digits, or all of a large number's."""
    if value >= 1000:
        return "%d" % round(value)
    return "%.*g" % (digits, value)


def notes_text(notes):
    texts = {
        "hit_ratio": lambda v: "hits %.1f %%" % (v * 100),
        "writeback_mib_s": lambda v: "writeback %.0f MiB/s" % v,
        "dirty_mib": lambda v: "%.0f MiB dirty at the end" % v,
        "write_waits": lambda v: "%d writes waited" % v,
        "keys_s": lambda v: "replay itself %.2f M keys/s" % (v / 1e6),
        "ended_early": lambda v: "writeback ended before the run did",
    }
    return ", ".join(texts[name](value) for name, value in notes.items()
                     if name in texts and value)


def align(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) if i < 2 or i == len(row) - 1
                 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def ratio_texts(results, place, contender, base):
    """That of the medians, and the extremes of those within one round."""
    if not base:
        return "-", "-"
    key = results.cases[place[1]].metric.key
    ours, theirs = ([sample[key] for sample in results.samples[(*place, who)]]
                    for who in (contender, base))
    quotients = [a / b for a, b in zip(ours, theirs) if b]
    if not quotients:
        return "-", "-"
    ratio = statistics.median(ours) / statistics.median(theirs)
    return "%.2f" % ratio, "%.2f..%.2f" % (min(quotients), max(quotients))


def case_table(results, medium, name):
    """One case on one medium: a line for each point and contender."""
    medians = results.medians()
    case = results.cases[name]
    keys = [k for k in medians if k[:2] == (medium, name)]
    points = list(dict.fromkeys(k[2] for k in keys))
    rows = [("", "", case.metric.unit, "spread", "mean us", "p99 us", "max ms",
             "cpu us", "ratio", "by round", "")]
    for point in points:
        present = {k[3]: medians[k] for k in keys if k[2] == point}
        for contender, m in present.items():
            base = baseline_of(case, contender, present)
            rows.append((
                point, contender, number(m["value"]),
                "%s..%s" % (number(m["low"]), number(m["high"])),
                number(m["mean_us"]) if "mean_us" in m else "-",
                number(m["p99_us"]) if "p99_us" in m else "-",
                number(m["max_us"] / 1000) if "max_us" in m else "-",
                number(m["cpu_us"], 3) if "cpu_us" in m else "-",
                *ratio_texts(results, (medium, name, point), contender, base),
                notes_text(m["notes"])))
    return "%s on %s: %s\n%s" % (name, medium, case.title, align(rows))


def targets_table(medians, figures=()):
    rows = [*targets.rows(medians), *targets.micro_rows(figures)]
    if not rows:
        return "No figure of this run has a target."
    table = [("case", "point", "medium", "what", "got", "want", "")]
    for row in rows:
        table.append((row["case"], row["point"], row["medium"], row["what"],
                      "%.2f" % row["ratio"], row["limit"],
                      "met" if row["met"] else "MISSED"))
    met = sum(row["met"] for row in rows)
    return "Targets: %d met, %d missed\n%s" % (met, len(rows) - met,
                                              align(table))


def to_json(results, facts, micro):
    medians = results.medians()
    return json.dumps({
        "machine": facts,
        "results": [
            dict(zip(("medium", "case", "point", "contender"), key),
                 metric=results.cases[key[1]].metric.key, median=medians[key],
                 rounds=samples)
            for key, samples in results.samples.items()],
        "targets": [*targets.rows(medians), *targets.micro_rows(micro)],
        "micro": micro,
        "problems": results.problems,
    }, indent=1)
