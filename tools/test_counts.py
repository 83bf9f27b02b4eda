#!/usr/bin/env python3
"""Prints how many test cases of a `bazel test` passed, failed, were skipped.

Usage: tools/test_counts.py FILE, which --build_event_json_file wrote
"""

import json
import os
import sys
import urllib.parse
import xml.etree.ElementTree


def count_cases(path):
    passed = failed = skipped = 0
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif (case.get("status") == "notrun" or case.get("result") == "skipped"
              or case.find("skipped") is not None):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def count_run(result):
    """The cases of one run, or shard, of a test."""
    counts = 0, 0, 0
    for output in result.get("testActionOutput", []):
        if output["name"] == "test.xml":
            path = urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path)
            if os.path.exists(path):
                counts = count_cases(path)
    passed, failed, skipped = counts
    # A test may also fail as a whole, as by a signal or a leak found at its end.
    if result.get("status") not in ("PASSED", "FLAKY") and not failed:
        failed = 1
    return passed, failed, skipped


def main():
    runs = {}
    with open(sys.argv[1]) as events:
        for line in events:
            event = json.loads(line)
            key = event["id"].get("testResult")
            if key and "testResult" in event:
                # Of several attempts the last one counts, which comes last.
                runs[key["label"], key.get("run"), key.get("shard")] = (
                    event["testResult"])
    print(*map(sum, zip((0, 0, 0), *map(count_run, runs.values()))))


if __name__ == "__main__":
    main()
