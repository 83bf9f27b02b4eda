#!/usr/bin/env python3
"""Merges coverage into one lcov file; stands in for Bazel's Java program.

`bazel coverage` runs it after each test, to convert what gcov wrote, and with
--combined_report=lcov once more, to add up the files of all tests.
"""

import argparse
import collections
import glob
import gzip
import json
import os


def read_gcov(path, hits):
    with gzip.open(path, "rt") as report:
        for file in json.load(report)["files"]:
            for line in file["lines"]:
                hits[file["file"]][line["line_number"]] += line["count"]


def read_lcov(path, hits):
    source = None
    with open(path) as report:
        for line in report:
            key, _, value = line.strip().partition(":")
            if key == "SF":
                source = value
            elif key == "DA":
                number, count = value.split(",")[:2]
                hits[source][int(number)] += int(count)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--coverage_dir")
    parser.add_argument("--reports_file")
    parser.add_argument("--source_file_manifest")
    parser.add_argument("--output_file", required=True)
    args, _ = parser.parse_known_args()

    hits = collections.defaultdict(collections.Counter)
    if args.coverage_dir:
        for path in glob.glob(os.path.join(args.coverage_dir, "*.gcov.json.gz")):
            read_gcov(path, hits)
    if args.reports_file:
        with open(args.reports_file) as reports:
            for path in reports.read().split():
                read_lcov(path, hits)
    if args.source_file_manifest:
        with open(args.source_file_manifest) as manifest:
            sources = set(manifest.read().split())
        hits = {source: lines for source, lines in hits.items() if source in sources}

    with open(args.output_file, "w") as output:
        for source, lines in sorted(hits.items()):
            print("SF:" + source, file=output)
            for number, count in sorted(lines.items()):
                print("DA:%d,%d" % (number, count), file=output)
            print("LF:%d" % len(lines), file=output)
            print("LH:%d" % sum(count > 0 for count in lines.values()), file=output)
            print("end_of_record", file=output)


if __name__ == "__main__":
    main()
