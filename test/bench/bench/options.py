"""The command line of tools/bench."""

import argparse
import fnmatch

from bench import contenders, media, refusal

DESCRIPTION = """\
Measures pcachefs beside others on the same media, in turn, and prints medians,
their spread, and ratios; tables on standard output, results.json and plots
(SVG) in --output. Needs root and what `tools/setup --bench` installs. Nothing
of it stays, also when it is interrupted."""

EPILOG = """\
examples:
  tools/bench --quick                         all of it, in a few minutes
  tools/bench --output=/tmp/figures           for real: hours, on a quiet machine
  tools/bench --cases='hits,writes*' --media=tmpfs --contenders=null,pcachefs
  tools/bench --micro --cases=none            the micro-benchmarks alone

docs/performance.md tells what each figure means."""


def parse(arguments, cases):
    parser = argparse.ArgumentParser(
        prog="tools/bench", description=DESCRIPTION, epilog=epilog(cases),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False)
    parser.add_argument("--cases", default="*", metavar="GLOB,...",
                        help="of those below")
    parser.add_argument("--contenders", default="*", metavar="GLOB,...",
                        help="of those below, or their groups: "
                        + ", ".join(groups()))
    parser.add_argument("--media", default="", metavar="NAME,...",
                        help="of: " + ", ".join(media.NAMES))
    parser.add_argument("--seconds", type=float, default=0,
                        help="of each measurement (4)")
    parser.add_argument("--rounds", type=int, default=0,
                        help="of each case; medians are of them (5)")
    parser.add_argument("--quick", action="store_true",
                        help="short, small, one round; one medium for each case")
    parser.add_argument("--output", metavar="DIR",
                        help="for results.json, report.txt and plots")
    parser.add_argument("--directory", default="/var/tmp", metavar="DIR",
                        help="on the disk to be measured (%(default)s)")
    parser.add_argument("--binaries", metavar="DIR",
                        help="with tools/pcachefs and so on, as bazel-bin; "
                        "otherwise they are built first")
    parser.add_argument("--set", action="append", default=[], dest="settings",
                        metavar="NAME=VALUE", help="a flag of the daemon: "
                        + ", ".join(refusal.TUNABLE))
    parser.add_argument("--micro", action="store_true",
                        help="micro-benchmarks too: index, log, checksum, replay")
    parser.add_argument("--list", action="store_true",
                        help="tell what would be measured, and end")
    options = parser.parse_args(arguments)
    options.settings = dict(parse_setting(s) for s in options.settings)
    options.media = [m for m in options.media.split(",") if m]
    for name in options.media:
        if name not in media.NAMES:
            raise refusal.Refused("--media=%s: want of %s" % (
                name, ", ".join(media.NAMES)))
    refusal.check_settings(options.settings)
    return options


def groups():
    return list(dict.fromkeys(c.group for c in contenders.ALL))


def epilog(cases):
    lines = ["contenders:"] + ["  " + c.name for c in contenders.ALL]
    lines += ["", "cases:"] + [
        "  %-16s %s (%s)" % (c.name, c.title, ", ".join(c.media))
        for c in cases]
    return "\n".join(lines) + "\n\n" + EPILOG


def parse_setting(text):
    name, equals, value = text.partition("=")
    if not equals:
        raise refusal.Refused("--set=%s: want NAME=VALUE" % text)
    return name, value


def select(globs, things, names):
    """Those of which one of the names fits one of the globs, in their order."""
    patterns = globs.split(",")
    return [thing for thing in things
            if any(fnmatch.fnmatchcase(name, pattern)
                   for name in names(thing) for pattern in patterns)]


def media_of(case, options):
    """Where a case runs."""
    chosen = [m for m in case.media
              if not options.media or m in options.media]
    if options.quick and not options.media:
        chosen = chosen[:1]
    return chosen
