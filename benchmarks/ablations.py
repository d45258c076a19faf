#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each part of `signround2` gives: tinystories-656k tuned with one setting changed, a row each.

    build/venv/bin/python benchmarks/ablations.py        (torch and transformers in it)

Model, data and measures are those of quality.py. A run that results/ablations.json has already is not repeated.
"""

import argparse
import json
import pathlib
import tempfile

import quality
import sides

RESULTS = sides.REPOSITORY / "benchmarks/results/ablations.json"
ITERATIONS = 200
LR = 1 / ITERATIONS
ROWS = {
    "`signround2`": {},
    "rates fall along a line": {"tuning.lr_schedule": "linear"},
    "the best batch stays": {"tuning.best_of": "batch"},
    "the last block against its output": {"tuning.last_block": "output"},
    "all three, as in auto-round": {"tuning.last_block": "output", "tuning.lr_schedule": "linear", "tuning.best_of": "batch"},
    "`signround`, with the three": {"tuning.algorithm": "signround", "tuning.lr_schedule": "cosine", "tuning.best_of": "epoch", "tuning.last_block": "logits"},
    "`signround`": {"tuning.algorithm": "signround"},
    "`lr` twice as large": {"tuning.lr": 2 * LR, "tuning.minmax_lr": LR / 4},
    "`minmax_lr` as large as `lr`": {"tuning.lr": LR, "tuning.minmax_lr": LR},
    "`minmax_lr` half of that": {"tuning.lr": LR, "tuning.minmax_lr": LR / 2},
    "`minmax_lr` an eighth": {"tuning.lr": LR, "tuning.minmax_lr": LR / 8},
    "blocks see the original's inputs": {"tuning.quantized_input": "false"},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=sides.PROGRAM)
    parser.add_argument("--scheme", default="W2A16G32")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    example = quality.MODELS["tinystories-656k"]
    known = {(run["row"], run["scheme"], run["seed"]) for run in results}
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        model, logits = work / "model", work / "logits"
        quality.copy_as_bfloat16(sides.EXAMPLE_MODEL, model)
        quality.save_logits(arguments.roundhouse, model, sides.HELD_OUT, logits)
        for seed in arguments.seeds:
            for row in arguments.rows:
                if (row, arguments.scheme, seed) in known:
                    continue
                run = sides.Run(model, work / "out", arguments.scheme, ITERATIONS, example.samples, example.seqlen, seed=seed,
                                algorithm="signround2", settings=ROWS[row])
                measured = quality.measure_run("roundhouse", run, arguments.roundhouse, sides.HELD_OUT, logits)
                results.append({"row": row, "scheme": arguments.scheme, "seed": seed, **measured})
                print(*results[-1].values(), flush=True)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
