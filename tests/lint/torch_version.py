# SPDX-License-Identifier: Apache-2.0
"""Checks that every file that names a version of torch names the one of host/cmake/libtorch.txt: the whole of it, or, with
".*" behind, its first two numbers. Measured and recorded results, and engines, have their own."""
import re
import subprocess
import sys

from sources import ROOT

FACT = "host/cmake/libtorch.txt"
ELSEWHERE = ("CHANGELOG.md", "benchmarks/results/", "docs/performance", "tests/data/", "tests/engines/")
VERSION = re.search(r"^torch==(\d+\.\d+\.\d+)$", (ROOT / FACT).read_text(), re.M)[1]
RIGHT = {VERSION, VERSION.rpartition(".")[0] + ".*"}

wrong, named = [], 0
listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")
for name in listed:
    path = ROOT / name
    if not name or name.startswith(ELSEWHERE) or not path.is_file() or path.is_symlink():
        continue
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        continue
    for number, line in enumerate(lines, 1):
        for version in re.findall(r"\btorch==([0-9.*]+)", line):
            named += 1
            if version not in RIGHT:
                wrong.append(f"{name}:{number}: torch=={version}, but {FACT} has {VERSION}")
print("\n".join(wrong), end="\n" if wrong else "")
if named < 4:
    sys.exit(f"only {named} places name torch's version: is this check still right?")
sys.exit(bool(wrong))
