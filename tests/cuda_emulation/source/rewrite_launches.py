# SPDX-License-Identifier: Apache-2.0
"""Turns kernel<<<blocks, threads, shared, stream>>>(arguments) of a .cu file into calls that a C++ compiler takes.

usage: rewrite_launches.py in.cu out.cpp
"""

import re
import sys

LAUNCH = re.compile(r"(?P<kernel>[A-Za-z_]\w*(?:<[^<>;{}]*>)?)\s*<<<(?P<where>.*?)>>>", re.DOTALL)


def rewrite(text):
    return LAUNCH.sub(
        lambda m: "::cuda_emulation::launch([&](const auto&... arguments) { %s(arguments...); }, %s)"
        % (m["kernel"], m["where"]),
        text,
    )


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    with open(target, "w", encoding="utf-8") as file:
        file.write('#line 1 "%s"\n%s' % (source, rewrite(text)))


if __name__ == "__main__":
    main()
