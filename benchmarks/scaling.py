#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How our time and peak memory grow with blocks, hidden size, sequence length and threads.

    build/reference/bin/python benchmarks/scaling.py
"""

import json
import os
import pathlib
import tempfile

import models
import sides

BASE = {"blocks": 2, "hidden": 896, "seqlen": 256, "threads": len(os.sched_getaffinity(0))}
AXES = {"blocks": [2, 4, 8], "hidden": [512, 896, 1792], "seqlen": [128, 256, 512],
        "threads": sorted({1, 2, BASE["threads"]})}
ITERS, SAMPLES, BATCH = 2, 8, 4


def shape_of(hidden):
    """Qwen2.5-0.5B's proportions, with widths that groups of 128 divide."""
    heads = hidden // 64
    return {"model_type": "qwen2", "hidden_size": hidden, "intermediate_size": 4864 * hidden // 896 // 128 * 128,
            "num_attention_heads": heads, "num_key_value_heads": max(1, heads // 7), "rope_theta": 1e6}


def measure(program, axes=AXES):
    seen, rows = {}, []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for axis, values in axes.items():
            for value in values:
                point = BASE | {axis: value}
                key = tuple(point.values())
                if key not in seen:
                    number = len(seen)
                    model = models.make_model(work / f"model-{number}", shape_of(point["hidden"]), point["blocks"])
                    run = sides.Run(model, work / f"out-{number}", "W4A16", ITERS, SAMPLES, point["seqlen"], BATCH,
                                    data=models.write_texts(work / f"{number}.jsonl", SAMPLES, point["seqlen"]))
                    seen[key] = sides.execute_roundhouse(run, program, threads=point["threads"])
                measured = seen[key]
                rows.append({"axis": axis, "value": value, **measured})
                print(f"{axis} {value}: {measured['seconds']:.1f} s, {measured['peak_bytes'] / 2**20:.0f} MiB", flush=True)
    return {"base": BASE, "iters": ITERS, "samples": SAMPLES, "batch": BATCH, "rows": rows}


def main():
    arguments = sides.parser(__doc__).parse_args()
    result = measure(arguments.roundhouse)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
