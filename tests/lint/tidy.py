# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy with the checks of .clang-tidy over the sources that include no libtorch.

Usage: tidy.py BUILD_FOLDER, one that is configured without precompiled headers: the preset tidy's.

Parsing the libraries' headers takes most of the time, so sources with equal flags are read several at a time, as one.
Where that finds something, or names collide, each half is read again: what is said of a single one counts.
"""
import collections
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys

from sources import ROOT

FOLDERS = ("host", "kernels/cpu", "plugins", "validator")
TOGETHER = 8
build = pathlib.Path(sys.argv[1]).resolve()
clang_tidy = os.path.join(os.path.dirname(sys.executable), "clang-tidy")


def check(path, flags):
    run = subprocess.run([clang_tidy, "--quiet", str(path), "--", *flags], capture_output=True, text=True, cwd=build)
    return run.stdout if run.returncode else ""


def check_together(paths, flags):
    """Returns what is found in any of them."""
    if len(paths) == 1:
        return check(paths[0], flags)
    joint = build / f"{paths[0].relative_to(ROOT)}.{len(paths)}.cpp"
    joint.parent.mkdir(parents=True, exist_ok=True)
    joint.write_text("".join(f'#include "{path}"\n' for path in paths))
    if not check(joint, flags):
        return ""
    half = len(paths) // 2
    return check_together(paths[:half], flags) + check_together(paths[half:], flags)


groups = collections.defaultdict(list)
for entry in json.loads((build / "compile_commands.json").read_text()):
    path = pathlib.Path(entry["file"])
    if path.is_relative_to(ROOT) and path.relative_to(ROOT).as_posix().startswith(FOLDERS):
        # libtorch takes minutes, and clang-tidy's package has no omp.h.
        if not any(skipped in entry["command"] for skipped in ("/torch/include", "-fopenmp")):
            words = shlex.split(entry["command"])
            words = words[1:words.index("-o")]
            groups[tuple(words)].append(path)
jobs = []
seen = set()
for flags, paths in sorted(groups.items(), key=lambda group: -len(group[1])):
    paths = sorted(set(paths) - seen)
    seen.update(paths)
    jobs += [(paths[i:i + TOGETHER], flags) for i in range(0, len(paths), TOGETHER)]
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    findings = [found for found in pool.map(lambda job: check_together(*job), jobs) if found]
print("".join(findings), end="")
sys.exit(len(findings) > 0)
