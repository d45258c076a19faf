#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the journal, by which a run goes on after a break, adds to its time.

    build/reference/bin/python benchmarks/journal.py

The same run in turns without records, with one after each block, and as it is: one in 30 seconds at most. Few iterations
make blocks short, so that a record after each is much more than a run has.
"""

import json
import pathlib
import re
import subprocess
import tempfile

import models
import sides

SHAPE = "qwen2.5-0.5b"
INTERVAL = 30  # seconds between two records of a run
RECORDS = {"none": "1e9", "every block": "0", "as it is": ""}  # ROUNDHOUSE_JOURNAL_SECONDS


def measure(program, rounds=3, blocks=4, iters=4, samples=128, seqlen=512):
    with tempfile.TemporaryDirectory(dir=sides.REPOSITORY / "build") as work:  # on a disk
        work = pathlib.Path(work)
        model = models.make_model(work / "model", models.SHAPES[SHAPE], blocks)
        texts = models.write_texts(work / "texts.jsonl", samples, seqlen)

        def command(what, number):
            run = sides.Run(model, work / f"{what}-{number}", "W4A16", iters, samples, seqlen, data=texts)
            return ["env", f"ROUNDHOUSE_JOURNAL_SECONDS={RECORDS[what]}", *sides.roundhouse_command(run, program)]

        plan = ["plan" if word == "run" else word for word in command("none", "plan")]
        text = subprocess.run(plan, check=True, capture_output=True, text=True).stdout
        size, unit = re.search(r"journal +up to ([\d.]+) (.B)", text).groups()
        results = sides.alternate(rounds, {
            what: lambda number, what=what: sides.execute(command(what, number), log=work / "log") for what in RECORDS}, "journal ")
    return {"shape": SHAPE, "blocks": blocks, "iters": iters, "samples": samples, "seqlen": seqlen, "interval": INTERVAL,
            "record_bytes": float(size) / 2 * {"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit], "rounds": results}


def main():
    options = vars(sides.parser(__doc__, rounds=3).parse_args())
    program, file = options.pop("roundhouse"), options.pop("json")
    result = measure(program, **options)
    if file:
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
