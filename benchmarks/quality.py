#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Perplexity after plain rounding and after tuning, the reference's and ours, with the same recipe.

    build/reference/bin/python benchmarks/quality.py        (sides.py says how to make build/reference)

Both sides quantize a bfloat16 copy of tinystories-656k and are scored by one rule: float32, natural logarithm, per
token, the first token of a story not scored, each story cut at 512 tokens. The reference is scored by transformers on
its `fake` export, we by `roundhouse eval` on our `auto_round` export.
"""

import argparse
import json
import math
import pathlib
import shutil
import statistics
import subprocess
import tempfile

import sides

SAMPLES, SEQLEN, ITERS, EVAL_SEQLEN = 128, 128, 200, 512


def copy_as_bfloat16(source, target):
    """For the reference: its `fake` export of a float32 model holds the weights from before quantization."""
    import torch
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(target)
    for file in source.glob("*token*.json"):
        shutil.copy(file, target)


class Reference:
    name = "reference"

    def quantize(self, run):
        sides.execute_reference(run, export_format="fake")
        return sides.reference_checkpoint(run.output)

    def perplexity(self, model_dir):
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
        tokenizer = Tokenizer.from_file(str(sides.EXAMPLE_MODEL / "tokenizer.json"))
        nll, tokens = 0.0, 0
        for line in sides.HELD_OUT.read_text().splitlines():
            ids = torch.tensor(tokenizer.encode(json.loads(line)["text"]).ids[:EVAL_SEQLEN])
            with torch.inference_mode():
                logits = model(ids[None, :-1]).logits[0]
            nll += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
            tokens += len(ids) - 1
        return math.exp(nll / tokens)


class Roundhouse:
    name = "roundhouse"

    def __init__(self, program):
        self.program = program

    def quantize(self, run):
        sides.execute_roundhouse(run, self.program)
        return run.output

    def perplexity(self, model_dir):
        command = [self.program, "eval", model_dir, "--data", sides.HELD_OUT, "--seqlen", str(EVAL_SEQLEN), "--json"]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["perplexity"]


def measure(side, model, work, schemes, seeds, algorithms):
    """{"original": perplexity, scheme: {"rounding": perplexity, algorithm: [perplexity of each seed]}}"""

    def quantized(scheme, iters, seed, algorithm="signround"):
        output = work / f"{side.name}-{scheme}-{iters}-{algorithm}-{seed}"
        run = sides.Run(model, output, scheme, iters, SAMPLES, SEQLEN, seed=seed, algorithm=algorithm)
        perplexity = side.perplexity(side.quantize(run))
        print(f"{side.name}: {scheme} iters {iters} {algorithm} seed {seed}: {perplexity:.4f}", flush=True)
        return perplexity

    results = {"original": side.perplexity(model)}
    for scheme in schemes:
        results[scheme] = {"rounding": quantized(scheme, 0, seeds[0])}
        for algorithm in algorithms:
            results[scheme][algorithm] = [quantized(scheme, ITERS, seed, algorithm) for seed in seeds]
    return results


def print_table(results, schemes, algorithms):
    rows = [("original", [side["original"] for side in results.values()])]
    for scheme in schemes:
        rows.append((f"{scheme} rounding", [side[scheme]["rounding"] for side in results.values()]))
        for algorithm in algorithms:
            rows.append((f"{scheme} {algorithm}", [statistics.mean(side[scheme][algorithm]) for side in results.values()]))
    compared = len(results) == 2
    print(f"\n{'perplexity':<24}" + "".join(f"{name:>12}" for name in results) + compared * f"{'ours / ref':>12}")
    for label, values in rows:
        ratio = compared * f"{values[-1] / values[0]:12.4f}"
        print(f"{label:<24}" + "".join(f"{value:12.3f}" for value in values) + ratio)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=sides.PROGRAM)
    parser.add_argument("--sides", nargs="+", choices=["reference", "roundhouse"], default=["reference", "roundhouse"])
    parser.add_argument("--schemes", nargs="+", default=["W4A16", "W3A16G32", "W2A16G32"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--algorithms", nargs="+", choices=["signround", "signround2"], default=["signround", "signround2"])
    parser.add_argument("--json", type=pathlib.Path, help="also write every number to this file")
    arguments = parser.parse_args()

    contenders = [side for side in (Reference(), Roundhouse(arguments.roundhouse)) if side.name in arguments.sides]
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        model = work / "model"
        copy_as_bfloat16(sides.EXAMPLE_MODEL, model)
        results = {side.name: measure(side, model, work, arguments.schemes, arguments.seeds, arguments.algorithms)
                   for side in contenders}
    print_table(results, arguments.schemes, arguments.algorithms)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
