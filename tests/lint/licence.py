# SPDX-License-Identifier: Apache-2.0
"""Checks that each source begins with the licence's SPDX line."""
import sys

from sources import CXX, ROOT, files

LINE = "SPDX-License-Identifier: Apache-2.0"

missing = [path for path in files(CXX | {".cmake", ".py", ".sh", "CMakeLists.txt"})
           if LINE not in "".join(path.read_text().splitlines(keepends=True)[:2])]
for path in missing:
    print(f"{path.relative_to(ROOT)}: add \"{LINE}\" as the first line, in a comment")
sys.exit(bool(missing))
