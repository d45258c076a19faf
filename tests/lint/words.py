# SPDX-License-Identifier: Apache-2.0
"""Checks that sources and documents avoid phrases that read wrongly in English, and says what to write."""
import re
import sys

from sources import CXX, ROOT, files

PHRASES = {
    r"\bhang(s|ing)? on\b|\bhung on\b": "depend on",
    r"\b(has|have|had) but one\b": "has only one",
    r"\b(leave|leaves|leaving|left)\b[^;:]{0,60}\baway\b": "omit",
    r"\b(is|are|was|were) there already\b": "already exists",
}
TEXTS = CXX | {".cmake", ".in", ".md", ".py", ".txt", ".yaml", ".yml", "CMakeLists.txt", "Makefile"}

documents = [*ROOT.glob("*"), *(ROOT / "docs").glob("*"), *(ROOT / "configs").rglob("*.yaml"), *ROOT.glob("configs/*/*.md")]
found = 0
for path in [*files(TEXTS), *(p for p in documents if {p.suffix, p.name} & TEXTS)]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for pattern, better in PHRASES.items():
            phrase = re.search(pattern, line, re.I)
            if phrase:
                found += 1
                print(f'{path.relative_to(ROOT)}:{number}: "{phrase[0]}": write "{better}"')
sys.exit(found > 0)
