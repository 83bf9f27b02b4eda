#!/usr/bin/env python3
"""Runs tools/bench over real mounts, once to its end and once interrupted, and
looks at its report and at what is left. Needs root; measures nothing of worth.
"""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.join(os.environ["TEST_SRCDIR"], os.environ["TEST_WORKSPACE"])
ARGUMENTS = [os.path.join(ROOT, "tools", "bench"), "--binaries=" + ROOT,
             "--quick", "--seconds=0.2", "--contenders=null,pcachefs,raw"]


def left_behind():
    """Of any run of tools/bench: no other may begin meanwhile."""
    with open("/proc/self/mountinfo") as mounts:
        found = {line.split()[4] for line in mounts}
    found.update(os.path.join("/dev/shm", n) for n in os.listdir("/dev/shm"))
    for loop in os.listdir("/sys/block"):
        path = "/sys/block/%s/loop/backing_file" % loop
        if os.path.exists(path):
            with open(path) as file:
                found.add("%s on %s" % (loop, file.read().strip()))
    return {name for name in found if "pcachefs-bench." in name}


class BenchTest(unittest.TestCase):

    def setUp(self):
        self.before = left_behind()

    def tearDown(self):
        self.assertEqual(left_behind() - self.before, set())

    def test_report(self):
        with tempfile.TemporaryDirectory() as output:
            subprocess.run(ARGUMENTS + ["--cases=hits,untar,cold",
                                        "--output=" + output], check=True)
            with open(os.path.join(output, "results.json")) as file:
                document = json.load(file)
            self.assertIn("hits-tmpfs.svg", os.listdir(output))
        self.assertEqual(document["problems"], [])
        measured = {(r["medium"], r["case"], r["contender"])
                    for r in document["results"]}
        for contender in ("raw", "pcachefs-dev_fuse"):
            self.assertIn(("tmpfs", "untar", contender), measured)
            self.assertIn(("slow", "cold", contender), measured)
        hits = [r for r in document["results"] if r["case"] == "hits"
                and r["contender"].startswith("pcachefs")]
        self.assertTrue(hits)
        for result in hits:
            self.assertGreater(result["median"]["notes"]["hit_ratio"], 0.99)

    def test_interrupted(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            bench = subprocess.Popen(ARGUMENTS + ["--cases=loop-hits"])
            while bench.poll() is None and not any(
                    name.startswith("loop")
                    for name in left_behind() - self.before):
                time.sleep(0.01)
            bench.send_signal(number)
            self.assertEqual(bench.wait(), 128 + number)
            self.assertEqual(left_behind() - self.before, set())


if __name__ == "__main__":
    unittest.main()
