# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy with the checks of .clang-tidy over the sources that include no libtorch.

Usage: tidy.py BUILD_FOLDER, one that is configured without precompiled headers: the preset tidy's.
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

from sources import ROOT

FOLDERS = ("host", "kernels/cpu", "plugins", "validator")
build = pathlib.Path(sys.argv[1])
clang_tidy = os.path.join(os.path.dirname(sys.executable), "clang-tidy")


def check(path):
    run = subprocess.run([clang_tidy, "--quiet", "-p", str(build), str(path)], capture_output=True, text=True)
    return run.stdout if run.returncode else ""


paths = set()
for entry in json.loads((build / "compile_commands.json").read_text()):
    path = pathlib.Path(entry["file"])
    if path.is_relative_to(ROOT) and path.relative_to(ROOT).as_posix().startswith(FOLDERS):
        # libtorch takes minutes, and clang-tidy's package has no omp.h.
        if not any(skipped in entry["command"] for skipped in ("/torch/include", "-fopenmp")):
            paths.add(path)
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    findings = [found for found in pool.map(check, sorted(paths)) if found]
print("".join(findings), end="")
sys.exit(len(findings) > 0)
