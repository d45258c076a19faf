#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What every preset is, which formats hold it, and what it costs: writes docs/schemes.md.

    benchmarks/presets.py            measures, some minutes
    benchmarks/presets.py --only FP8_DYNAMIC NVFP4A16    measures these alone, and keeps the other measured rows
    benchmarks/presets.py --matrix   keeps the measured table, renews the rest
    benchmarks/presets.py --check    fails when the document does not say what the plugins answer
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/schemes.md"
EXAMPLES = ROOT / "configs/examples"
MODEL = EXAMPLES / "tinystories-656k"
SAMPLES, SEQLEN, ITERS = 128, 128, 50
MEASURED = "## Measured"

HEAD = """# Presets

This page is written by `benchmarks/presets.py` from `roundhouse schemes --json`: the plugins' own answers for a layer of 4096 x 4096
bfloat16 weights. A recipe names a preset (`scheme: W4A16`) or spells the fields out ([docs/recipes.md](recipes.md)).

These are auto-round's presets, and four of llm-compressor's (FP8_DYNAMIC, W4A16_ASYM, NVFP4A16, MXFP4A16). W4A16_MIXED and GGUF:Q2_K_MIXED give routed experts fewer bits than the rest of the blocks, which has
8 bits and Q4_K; a model without experts has them everywhere.

## Which format holds which preset

"""


def matrix(program):
    schemes = json.loads(subprocess.run([program, "schemes", "--json"], check=True, stdout=subprocess.PIPE).stdout)
    formats = sorted({f for s in schemes for f in s["formats"]})
    lines = ["| preset | weight | activation | " + " | ".join(f"`{f}`" for f in formats) + " |",
             "| --- " * (len(formats) + 3) + "|"]
    for scheme in schemes:
        if scheme["problem"]:
            sys.exit(f"{scheme['name']}: {scheme['problem']}")
        weight, _, activation = scheme["what"].partition(", A")
        cells = ["yes" if scheme["formats"][f] is True else "" for f in formats]
        lines.append(f"| {scheme['name']} | {weight} | {'A' + activation if activation else ''} | " + " | ".join(cells) + " |")
    return schemes, "\n".join(lines) + "\n\n"


def run(program, folder, scheme):
    recipe = folder / "recipe.yaml"
    # What the format cannot take as a whole falls back layer by layer, where a format assigns types itself.
    wanted = "gguf" if scheme["name"].startswith("GGUF") else "fake"
    recipe.write_text(json.dumps({
        "version": 1, "model": str(MODEL), "output": str(folder / "out"), "scheme": scheme["name"],
        "calibration": {"data": str(EXAMPLES / "texts/tinystories-calibration.jsonl"), "samples": SAMPLES, "seqlen": SEQLEN},
        "tuning": {"iters": ITERS}, "formats": [wanted],
        "evaluation": {"data": str(EXAMPLES / "texts/tinystories-heldout.jsonl"), "seqlen": SEQLEN}}))
    done = subprocess.run([program, "run", recipe, "--overwrite"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(done.stdout.decode())
    return json.loads((folder / "out/roundhouse/report.json").read_text())


def measure(program, schemes, kept):
    """kept: by preset, the lines of those that are not measured"""
    lines = [MEASURED, "",
             f"Perplexity of tinystories-656k (width 128) on held-out stories of up to {SEQLEN} tokens, after {ITERS} iterations on {SAMPLES} samples of as many,",
             "and after plain rounding; activations are quantized where the preset says so. The GGUF presets go through the format `gguf`,",
             "which gives this narrow model's layers other types where a type needs rows of 256 columns.", "",
             "| preset | original | plain rounding | tuned | seconds |", "| --- | --- | --- | --- | --- |"]
    for scheme in schemes:
        if scheme["name"] in kept:
            lines.append(kept[scheme["name"]])
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            report = run(program, folder, scheme)
        values = report["models"]  # original, plain rounding, tuned
        print(scheme["name"], *(f"{v['perplexity']:.3f}" for v in values), flush=True)
        cells = [f"{v['perplexity']:.3f}" for v in values]
        if len(cells) == 2:  # nothing to round
            cells.insert(1, "")
        lines.append(f"| {scheme['name']} | " + " | ".join(cells) + f" | {report['seconds']['quantize']:.1f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=ROOT / "build/bin/roundhouse")
    parser.add_argument("--matrix", action="store_true")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()

    schemes, table = matrix(arguments.roundhouse)
    before = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    measured = before[before.index(MEASURED):] if MEASURED in before else ""
    if arguments.check:
        if not before.startswith(HEAD + table):
            sys.exit(f"{DOCUMENT} is not what the plugins answer: run benchmarks/presets.py --matrix")
        return
    if not arguments.matrix:
        kept = {line.split("|")[1].strip(): line for line in measured.splitlines() if line.startswith("| ")} if arguments.only else {}
        measured = measure(arguments.roundhouse, schemes, {name: line for name, line in kept.items() if name not in arguments.only})
    DOCUMENT.write_text(HEAD + table + measured)


if __name__ == "__main__":
    main()
