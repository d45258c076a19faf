#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which first learning rates `signround2` wants, ours and auto-round's: a model tuned with some, a row each. Of ours also the
rate of the ranges' scales, as a share of the other.

    build/reference/bin/python benchmarks/learning_rates.py [--models MODEL...] [--sides roundhouse reference]

Models, data and measures are those of quality.py, but the texts are those for choices. A run that results/learning_rates.json has
already is not repeated.
"""

import argparse
import json
import pathlib
import tempfile

import quality
import sides

RESULTS = sides.REPOSITORY / "benchmarks/results/learning_rates.json"
RATES = {25: [0.01, 0.014, 0.02, 0.04], 50: [0.0025, 0.005, 0.01, 0.02, 0.04], 100: [0.0025, 0.005, 0.007, 0.01], 200: [0.0025, 0.005]}
KEYS = ("model", "side", "scheme", "samples", "iters", "lr", "minmax_lr", "seed")


def measure(name, arguments, results):
    model = quality.MODELS[name]
    known = {tuple(run[key] for key in KEYS) for run in results}
    wanted = [(name, side, scheme, samples or model.samples, iters, lr, share * lr, seed)
              for side in arguments.sides for scheme in model.schemes for samples in arguments.samples for iters in arguments.iters
              for lr in RATES[iters] for share in (arguments.shares if side == "roundhouse" else [1]) for seed in arguments.seeds]
    wanted = [one for one in wanted if one not in known]
    if not wanted:
        return
    work = arguments.work.resolve()
    folder = quality.make(name, work)
    data = model.calibration if model.calibration.suffix == ".jsonl" else quality.as_lines(model.calibration, work)
    with tempfile.TemporaryDirectory() as temporary:
        logits, output = pathlib.Path(temporary) / "logits", pathlib.Path(temporary) / "out"
        quality.save_logits(sides.PROGRAM, folder, model.for_choices, logits)
        for one in wanted:
            _, side, scheme, samples, iters, lr, minmax_lr, seed = one
            run = sides.Run(folder, output, scheme, iters, samples, model.seqlen, min(model.batch_size, samples), seed, data,
                            algorithm="signround2", lr=lr, settings=model.settings | {"tuning.minmax_lr": minmax_lr})
            measured = quality.measure_run(side, run, sides.PROGRAM, model.for_choices, logits, export_format=model.ours)
            results.append(dict(zip(KEYS, one)) | {what: measured[what] for what in ("perplexity", "kld")})
            print(*results[-1].values(), flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=quality.MODELS, default=["tinystories-656k", "smollm2"])
    parser.add_argument("--sides", nargs="+", choices=["reference", "roundhouse"], default=["roundhouse"])
    parser.add_argument("--iters", nargs="+", type=int, choices=RATES, default=list(RATES))
    parser.add_argument("--samples", nargs="+", type=int, default=[0], help="0: as many as quality.py")
    parser.add_argument("--shares", nargs="+", type=float, default=[1, 0.5, 0.25, 0.125], help="of the rate, for the ranges' scales")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--work", type=pathlib.Path, default=sides.REPOSITORY / "build/real", help="keeps models and packages")
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in arguments.models:
        measure(name, arguments, results)


if __name__ == "__main__":
    main()
