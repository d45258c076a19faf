#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A block of Qwen3-30B-A3B's shape, 128 experts of which a token takes 8: tuning beside its matrix products, memory beside
what must be there, and rounding beside a dense block of the same bytes. Needs 16 GiB of memory.

    build/reference/bin/python benchmarks/experts.py          (any Python with torch and transformers)
"""

import json
import os
import pathlib
import subprocess
import tempfile

import models
import sides

SHAPE = "qwen3-30b-a3b"


def program_json(program, *arguments):
    print(program.name, *arguments, flush=True)
    waiting = {"GOMP_SPINCOUNT": "3000"}  # as the executable sets it for itself
    return json.loads(subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, env=waiting | os.environ).stdout)


def block_loop(program, **size):
    return program_json(program.with_name("block_loop_bench"),
                        *(text for name, value in size.items() for text in (f"--{name}", str(value))))


def measure(program, rounds=3, blocks=1, **size):
    loop = block_loop(program, **{"shape": SHAPE, "batch": 8, "seqlen": 2048, "iters": 2, "rounds": 1} | size)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        made = {name: models.make_model(work / name, models.SHAPES[shape], blocks)
                for name, shape in (("experts", SHAPE), ("dense", f"{SHAPE}, dense"))}

        def contender(name):
            return lambda n: sides.execute_roundhouse(sides.Run(made[name], work / f"{name}-{n}", "W4A16", 0, 8, 128), program)

        rounding = sides.alternate(rounds, {name: contender(name) for name in made}, "rounding ")
        weights = {name: (model / "model.safetensors").stat().st_size for name, model in made.items()}
    return {"loop": loop, "rounding": rounding, "weights": weights}


def main():
    options = vars(sides.parser(__doc__, rounds=3).parse_args())
    program, file = options.pop("roundhouse"), options.pop("json")
    result = measure(program, **options)
    text = json.dumps(result, indent=1) + "\n"
    file.write_text(text) if file else print(text)


if __name__ == "__main__":
    main()
