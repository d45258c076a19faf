#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Perplexity and divergence after rounding and after tuning, the reference's and ours, with the same recipe.

    build/reference/bin/python benchmarks/quality.py        (sides.py says how to make build/reference)

Both sides quantize a bfloat16 copy of tinystories-656k, and `roundhouse eval` scores both: the reference's `fake` export and our
`auto_round` one, in float32, the first token of a story not scored, each story cut at 512 tokens. A run that
results/quality.json has already is not repeated; document.py makes the tables of docs/quality.md from there.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import tempfile

import sides

SAMPLES, SEQLEN, EVAL_SEQLEN = 128, 128, 512
RESULTS = sides.REPOSITORY / "benchmarks/results/quality.json"


def copy_as_bfloat16(source, target):
    """For the reference: its `fake` export of a float32 model holds the weights from before quantization."""
    import torch
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(target)
    for file in source.glob("*token*.json"):
        shutil.copy(file, target)


def quantize(side, run, program):
    """(folder, seconds of the whole program)"""
    if side == "reference":
        took = sides.execute_reference(run, export_format="fake")
        return sides.reference_checkpoint(run.output), took["seconds"]
    return run.output, sides.execute_roundhouse(run, program)["seconds"]


def score(program, folder, *logits):
    command = [program, "eval", folder, "--data", sides.HELD_OUT, "--seqlen", str(EVAL_SEQLEN), "--json", *logits]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure_run(side, run, program, logits):
    """(perplexity, mean divergence, seconds); the export is gone then."""
    folder, seconds = quantize(side, run, program)
    scores = score(program, folder, "--logits", logits)
    shutil.rmtree(run.output)
    return scores["perplexity"], scores["kld"]["mean"], seconds


def runs(arguments):
    """(scheme, algorithm, iterations, seed)"""
    for scheme in arguments.schemes:
        for iters in arguments.iters:
            for algorithm in arguments.algorithms if iters else ["rounding"]:
                for seed in arguments.seeds if iters else arguments.seeds[:1]:
                    yield scheme, algorithm, iters, seed


def measure(arguments):
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"original": None, "runs": []}
    known = {tuple(row[key] for key in ("side", "scheme", "algorithm", "iters", "seed")) for row in results["runs"]}
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        model, logits, output = work / "model", work / "logits", work / "out"
        copy_as_bfloat16(sides.EXAMPLE_MODEL, model)
        results["original"] = score(arguments.roundhouse, model, "--save-logits", logits)["perplexity"]
        for scheme, algorithm, iters, seed in runs(arguments):
            for side in arguments.sides:
                if (side, scheme, algorithm, iters, seed) in known:
                    continue
                run = sides.Run(model, output, scheme, iters, SAMPLES, SEQLEN, seed=seed,
                                algorithm=algorithm if iters else "signround")
                perplexity, kld, seconds = measure_run(side, run, arguments.roundhouse, logits)
                row = {"side": side, "scheme": scheme, "algorithm": algorithm, "iters": iters, "seed": seed,
                       "perplexity": perplexity, "kld": kld, "seconds": round(seconds, 1)}
                print(*row.values(), flush=True)
                results["runs"].append(row)
                arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=sides.PROGRAM)
    parser.add_argument("--sides", nargs="+", choices=["reference", "roundhouse"], default=["reference", "roundhouse"])
    parser.add_argument("--schemes", nargs="+", default=["W4A16", "W3A16G32", "W2A16G32"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--iters", nargs="+", type=int, default=[0, 200], help="0: plain rounding")
    parser.add_argument("--algorithms", nargs="+", choices=["signround", "signround2"], default=["signround", "signround2"])
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
