# SPDX-License-Identifier: Apache-2.0
"""The files that the lints look at."""
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("benchmarks", "host", "kernels", "plugins", "sdk", "tests", "validator")
CXX = {".c", ".cpp", ".cu", ".cuh", ".h", ".hpp"}
# Data, and headers as they were published.
EXCLUDED = ("sdk/abi/", "tests/data/")


def files(suffixes):
    """The sources under FOLDERS with one of the suffixes, or of one of the names, sorted."""
    found = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if {path.suffix, path.name} & suffixes and not path.relative_to(ROOT).as_posix().startswith(EXCLUDED):
                found.append(path)
    return sorted(found)
