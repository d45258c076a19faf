# SPDX-License-Identifier: Apache-2.0
"""Checks the objects that are compiled for processors with more instructions than every one has.

The linker keeps one copy of each weak symbol, from whichever object comes first. A function of a shared header that is
emitted in an AVX-512 object may so become the one that all objects call, and stops the program on older processors.
These objects may therefore define nothing global but their tables of kernels.

Usage: weak_symbols.py BUILD_FOLDER
"""
import json
import pathlib
import re
import subprocess
import sys

TABLE = re.compile(r"roundhouse::kernels::k\w+")

build = pathlib.Path(sys.argv[1])
objects = []
for entry in json.loads((build / "compile_commands.json").read_text()):
    if re.search(r" -m(avx|f16c|fma|arch=)", entry["command"]):
        objects.append(build / re.search(r" -o (\S+)", entry["command"])[1])
found = 0
for path in objects:
    table = subprocess.run(["nm", "--demangle", "--defined-only", "--format=bsd", str(path)], check=True,
                           capture_output=True, text=True).stdout
    for line in table.splitlines():
        kind, name = line.split(maxsplit=2)[1:]
        # A small letter is local, but for u, v, w: unique and weak ones.
        if (kind.isupper() or kind in "uvw") and not (kind in "DR" and TABLE.fullmatch(name)):
            found += 1
            print(f"{path}: {kind} {name}: make it local to its file (an anonymous namespace, or static)")
sys.exit(found > 0)
