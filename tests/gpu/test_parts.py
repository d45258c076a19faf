#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What test_gpu.py says of parts that pass, fail and are skipped, of a tree with a stand-in for the kernels' tests."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).with_name("test_gpu.py")
STAND_IN = """#!{python}
import json, sys
report = next(word.split("=json:")[1] for word in sys.argv if word.startswith("--gtest_output"))
tests = [{{"classname": "Cuda", "name": f"Test{{i}}", "result": how}} for i, how in enumerate({results})]
json.dump({{"testsuites": [{{"testsuite": tests}}]}}, open(report, "w"))
print("no CUDA device: not run")
sys.exit({status})
"""


class Parts(unittest.TestCase):
    def run_parts(self, *parts, results=None, status=0, sanitizer=False):
        with tempfile.TemporaryDirectory() as folder:
            build, path = pathlib.Path(folder, "build"), pathlib.Path(folder, "path")
            (build / "bin").mkdir(parents=True)
            path.mkdir()
            if results is not None:
                self.write(build / "bin/kernels_cuda_test", STAND_IN.format(python=sys.executable, results=results, status=status))
            if sanitizer:
                self.write(path / "compute-sanitizer", '#!/bin/sh\nshift 4\nexec "$@"\n')
            done = subprocess.run([sys.executable, SCRIPT, "--build", build, "--parts", *parts], stdout=subprocess.PIPE, text=True,
                                  env=os.environ | {"PATH": f"{path}:/usr/bin:/bin"})
            states = {name: part["state"] for name, part in json.loads((build / "gpu.json").read_text()).items()}
            return done.returncode, states, done.stdout

    @staticmethod
    def write(path, text):
        path.write_text(text)
        path.chmod(0o755)

    def test_passes_and_names_tests_that_were_not_run(self):
        status, states, said = self.run_parts("kernels", results=["COMPLETED", "SKIPPED"])
        self.assertEqual((status, states), (0, {"kernels": "passed"}), said)
        self.assertIn("not run: Cuda.Test1", said)

    def test_fails_when_every_test_was_skipped(self):
        status, states, said = self.run_parts("kernels", results=["SKIPPED", "SKIPPED"])
        self.assertEqual((status, states), (1, {"kernels": "failed"}), said)
        self.assertIn("all 2 tests were skipped: no CUDA device: not run", said)

    def test_fails_when_a_test_fails_or_there_are_none(self):
        self.assertEqual(self.run_parts("kernels", results=["COMPLETED"], status=1)[:2], (1, {"kernels": "failed"}))
        status, states, said = self.run_parts("kernels")
        self.assertEqual((status, states), (1, {"kernels": "failed"}), said)
        self.assertIn("without nvcc", said)

    @unittest.skipIf(os.path.exists("/usr/local/cuda/bin/compute-sanitizer"), "compute-sanitizer is installed")
    def test_fails_when_every_part_was_skipped(self):
        both = "memcheck", "racecheck"
        status, states, said = self.run_parts(*both, results=["COMPLETED"])
        self.assertEqual((status, states), (1, dict.fromkeys(both, "skipped")), said)
        self.assertIn("compute-sanitizer is not installed", said)
        status, states, said = self.run_parts("kernels", *both, results=["COMPLETED"])
        self.assertEqual((status, states), (0, {"kernels": "passed"} | dict.fromkeys(both, "skipped")), said)

    def test_runs_the_tests_under_the_sanitizer(self):
        status, states, said = self.run_parts("memcheck", results=["COMPLETED"], sanitizer=True)
        self.assertEqual((status, states), (0, {"memcheck": "passed"}), said)


if __name__ == "__main__":
    unittest.main()
