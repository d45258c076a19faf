# SPDX-License-Identifier: Apache-2.0
"""The programs of this package, under the names that pip puts on the path."""

import os
import pathlib
import sys


def _run(name):
    program = pathlib.Path(__file__).parent / "bin" / name
    os.execv(program, [name, *sys.argv[1:]])


def main():
    _run("roundhouse")


def validate():
    _run("roundhouse-validate")
