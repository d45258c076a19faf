#!/usr/bin/env python3
"""Perplexity after plain rounding and after tuning, the reference's and ours, with the same recipe.

    build/reference/bin/python tests/benchmarks/quality.py

Both sides quantize a bfloat16 copy of tinystories-656k (see reference.py for the environment) and are scored by one rule:
float32, natural logarithm, per token, the first token of a story not scored, each story cut at 512 tokens.
The reference is scored by transformers on its `fake` export, we by `roundhouse eval` on our `auto_round` export.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import tempfile

import reference

DATA = reference.EXAMPLES / "texts" / "tinystories-calibration.jsonl"
HELD_OUT = reference.EXAMPLES / "texts" / "tinystories-heldout.jsonl"
RECIPE = reference.REPOSITORY / "configs" / "recipes" / "quickstart.yaml"
SAMPLES, SEQLEN, BATCH_SIZE, ITERS, EVAL_SEQLEN = 128, 128, 8, 200, 512


class Reference:
    name = "reference"

    def perplexity(self, model):
        return reference.perplexity(model, reference.EXAMPLES / "tinystories-656k" / "tokenizer.json", HELD_OUT, EVAL_SEQLEN)

    def quantize(self, model, output, scheme, iters, seed):
        reference.run(
            reference.command(model, output, scheme=scheme, iters=iters, samples=SAMPLES, seqlen=SEQLEN,
                              batch_size=BATCH_SIZE, seed=seed, data=DATA, export_format="fake"),
            log=f"{output}.log")
        return reference.exported_checkpoint(output)


class Roundhouse:
    name = "roundhouse"

    def __init__(self, program):
        self.program = program

    def perplexity(self, model):
        report = subprocess.run([self.program, "eval", model, "--data", HELD_OUT, "--seqlen", str(EVAL_SEQLEN)],
                                check=True, capture_output=True, text=True).stdout
        return float(re.search(r"perplexity\D*([0-9.]+)", report).group(1))

    def quantize(self, model, output, scheme, iters, seed):
        # The quickstart recipe has the calibration that this benchmark wants; its data is DATA.
        settings = {"model": model, "output": output, "scheme": scheme, "formats": "[auto_round]",
                    "tuning.iters": iters, "calibration.seed": seed}
        reference.run([self.program, "run", RECIPE, *(f"--set={key}={value}" for key, value in settings.items())],
                      log=f"{output}.log")
        return output


def measure(side, model, work, schemes, seeds):
    """{"original": p, scheme: {"rounding": p, "tuned": [p of each seed]}}"""
    result = {"original": side.perplexity(model)}
    print(f"{side.name}: original {result['original']:.4f}", flush=True)
    for scheme in schemes:
        def quantized(iters, seed):
            output = work / f"{side.name}-{scheme}-{iters}-{seed}"
            value = side.perplexity(side.quantize(model, output, scheme, iters, seed))
            print(f"{side.name}: {scheme} iters {iters} seed {seed}: {value:.4f}", flush=True)
            return value
        result[scheme] = {"rounding": quantized(0, seeds[0]), "tuned": [quantized(ITERS, seed) for seed in seeds]}
    return result


def print_table(results, schemes):
    rows = [("original", {name: result["original"] for name, result in results.items()})]
    for scheme in schemes:
        rows.append((f"{scheme} rounding", {name: result[scheme]["rounding"] for name, result in results.items()}))
        rows.append((f"{scheme} tuned (mean)", {name: statistics.mean(result[scheme]["tuned"]) for name, result in results.items()}))
    print(f"\n{'perplexity':<24}" + "".join(f"{name:>12}" for name in results) + f"{'ours / ref':>12}")
    for label, values in rows:
        ratio = f"{values['roundhouse'] / values['reference']:12.4f}" if len(values) == 2 else ""
        print(f"{label:<24}" + "".join(f"{value:12.3f}" for value in values.values()) + ratio)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=reference.REPOSITORY / "build" / "bin" / "roundhouse")
    parser.add_argument("--sides", nargs="+", choices=["reference", "roundhouse"], default=["reference", "roundhouse"])
    parser.add_argument("--schemes", nargs="+", default=["W4A16", "W3A16G32", "W2A16G32"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--json", type=pathlib.Path, help="also write every number to this file")
    arguments = parser.parse_args()
    sides = {"reference": Reference(), "roundhouse": Roundhouse(arguments.roundhouse.resolve())}

    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        model = work / "model"
        reference.copy_as_bfloat16(reference.EXAMPLES / "tinystories-656k", model)
        results = {name: measure(sides[name], model, work, arguments.schemes, arguments.seeds) for name in arguments.sides}
    print_table(results, arguments.schemes)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
