# SPDX-License-Identifier: Apache-2.0
"""Checks that all C and C++ files are as clang-format wants them; with --fix, makes them so."""
import os
import subprocess
import sys

from sources import CXX, files

clang_format = os.path.join(os.path.dirname(sys.executable), "clang-format")
how = ["-i"] if sys.argv[1:] == ["--fix"] else ["--dry-run", "-Werror"]
status = subprocess.run([clang_format, "--style=file", *how, *files(CXX)]).returncode
if status:
    print("`make format` formats all files.", file=sys.stderr)
sys.exit(status)
