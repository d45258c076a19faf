#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Perplexity and divergence after rounding and after tuning, the reference's and ours, with the same recipe.

    build/reference/bin/python benchmarks/quality.py [--models MODEL...]        (sides.py says how to make build/reference)

Both sides quantize a bfloat16 copy of the model, and `roundhouse eval` scores both: the reference's `fake` or GGUF export
and our `auto_round`, `fake` or GGUF one, in float32, the first token of a text not scored, each text cut at 512 tokens. A run that
results/quality.json has already is not repeated; document.py makes the tables of docs/quality.md from there. --reference-lr is
for auto-round alone: its best of learning_rates.py, where that is another than its own.
smollm2 and gemma3 come from PyPI (tests/real); wide is a model that train_wide.py makes.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import sides

sys.path.append(str(sides.REPOSITORY / "tests/real"))
import real_models

EVAL_SEQLEN = 512
RESULTS = sides.REPOSITORY / "benchmarks/results/quality.json"


@dataclasses.dataclass
class Model:
    schemes: list
    source: object = None  # a folder; else in WORK
    calibration: pathlib.Path = sides.CALIBRATION
    held_out: pathlib.Path = sides.HELD_OUT
    for_choices: pathlib.Path = sides.HELD_OUT  # by which settings are chosen
    samples: int = 128
    seqlen: int = 128
    batch_size: int = 8
    iters: int = 200
    ours: str = "auto_round"  # the format of our export, where it is not GGUF
    settings: dict = dataclasses.field(default_factory=dict)  # more keys of our recipe


def of_wikitext(schemes):
    return Model(schemes, calibration=real_models.CALIBRATION, held_out=real_models.TEST, for_choices=real_models.HELD_OUT, samples=32,
                 batch_size=4, iters=50)


BITS = ["W4A16", "W3A16G32", "W2A16G32"]
MODELS = {
    "tinystories-656k": Model(BITS, sides.EXAMPLE_MODEL),
    "stories260K": Model(["W4A16G32", "W3A16G32", "W2A16G32"], sides.REPOSITORY / "tests/data/models/stories260K", ours="fake",
                         settings={"layers": "[{match: 're:.*mlp.*', scheme: none}]"}),  # 172 columns: the reference leaves them, too
    "wide": Model(["GGUF:Q4_K_S", "GGUF:Q3_K_S", "GGUF:Q2_K_S"]),
    "smollm2": of_wikitext(["W4A16G64", "W3A16G32", "W2A16G32"]),
    "gemma3": of_wikitext(["W4A16", "W3A16G32", "W2A16G32"]),
}


def copy_as_bfloat16(source, target, **more):
    """For the reference: its `fake` export of a float32 model holds the weights from before quantization."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, **more)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
        model.hf_quantizer = None
    model.save_pretrained(target)
    if more:
        AutoTokenizer.from_pretrained(source, **more).save_pretrained(target)
    for file in source.glob("*token*.json"):
        shutil.copy(file, target)


def make(name, work):
    """The model as a folder of bfloat16, made once."""
    target = work / "quality" / name
    if not (target / "config.json").exists():
        if source := MODELS[name].source:
            copy_as_bfloat16(source, target)
        elif name == "wide":
            copy_as_bfloat16(work / "wide", target)
        else:
            file = real_models.fetch(work, name)
            copy_as_bfloat16(file.parent, target, gguf_file=file.name)
    return target


def as_lines(text, work, characters=1500):
    """A text in pieces, each a line of JSON: the reference reads no other texts, and takes those that are long enough."""
    file = work / "quality" / text.with_suffix(".jsonl").name
    whole = text.read_text()
    pieces = [whole[at:at + characters] for at in range(0, len(whole), characters)]
    file.write_text("".join(json.dumps({"text": piece}) + "\n" for piece in pieces))
    return file


def quantize(side, run, program, export_format="auto_round"):
    """(folder, what it took)"""
    gguf = run.scheme.startswith("GGUF:")
    if side == "reference":
        took = sides.execute_reference(run, export_format=run.scheme.lower() if gguf else "fake")
        return next(run.output.rglob("*.gguf")) if gguf else sides.reference_checkpoint(run.output), took
    return run.output, sides.execute_roundhouse(run, program, export_format="gguf" if gguf else export_format)


def score(program, folder, held_out, *logits):
    command = [program, "eval", folder, "--data", held_out, "--seqlen", str(EVAL_SEQLEN), "--json", *logits]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def save_logits(program, folder, held_out, logits):
    """The perplexity of the model itself."""
    return score(program, folder, held_out, "--save-logits", logits)["perplexity"]


def measure_run(side, run, program, held_out, logits, **more):
    """What it gives and takes, by name; the export is gone then."""
    folder, took = quantize(side, run, program, **more)
    # auto-round writes another tokenizer into GGUF than the model has.
    own = ["--config", run.model] if folder.suffix == ".gguf" else []
    scores = score(program, folder, held_out, "--logits", logits, *own)
    shutil.rmtree(run.output)
    return {"perplexity": scores["perplexity"], "kld": scores["kld"]["mean"], "seconds": round(took["seconds"], 1),
            "processor_seconds": round(took["processor_seconds"], 1)}


def runs(model, arguments):
    """(scheme, algorithm, iterations, seed)"""
    for scheme in arguments.schemes or model.schemes:
        for iters in [0, model.iters] if arguments.iters is None else arguments.iters:
            for algorithm in arguments.algorithms if iters else ["rounding"]:
                for seed in arguments.seeds if iters else arguments.seeds[:1]:
                    yield scheme, algorithm, iters, seed


KEYS = ("model", "side", "scheme", "algorithm", "iters", "seed", "lr")


def measure(name, arguments, results):
    model, known = MODELS[name], {tuple(row.get(key) for key in KEYS) for row in results["runs"]}
    rates = {"reference": arguments.reference_lr}
    wanted = [(name, side, *run, rates.get(side) if run[2] else None) for run in runs(model, arguments) for side in arguments.sides]
    wanted = [one for one in wanted if one not in known]
    if not wanted:
        return
    folder = make(name, arguments.work.resolve())
    data = model.calibration if model.calibration.suffix == ".jsonl" else as_lines(model.calibration, arguments.work.resolve())
    with tempfile.TemporaryDirectory() as work:
        logits, output = pathlib.Path(work) / "logits", pathlib.Path(work) / "out"
        results["originals"][name] = save_logits(arguments.roundhouse, folder, model.held_out, logits)
        for _, side, scheme, algorithm, iters, seed, lr in wanted:
            run = sides.Run(folder, output, scheme, iters, model.samples, model.seqlen, model.batch_size, seed, data,
                            algorithm=algorithm if iters else "signround", lr=lr, settings=model.settings)
            row = dict(zip(KEYS, (name, side, scheme, algorithm, iters, seed, lr)))
            row |= measure_run(side, run, arguments.roundhouse, model.held_out, logits, export_format=model.ours)
            print(*row.values(), flush=True)
            results["runs"].append(row)
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=sides.PROGRAM)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["tinystories-656k"])
    parser.add_argument("--sides", nargs="+", choices=["reference", "roundhouse"], default=["reference", "roundhouse"])
    parser.add_argument("--schemes", nargs="+", help="instead of those of each model")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--iters", nargs="+", type=int, help="0: plain rounding")
    parser.add_argument("--algorithms", nargs="+", choices=["signround", "signround2"], default=["signround", "signround2"])
    parser.add_argument("--reference-lr", type=float, help="instead of auto-round's own")
    parser.add_argument("--work", type=pathlib.Path, default=sides.REPOSITORY / "build/real", help="keeps models and packages")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"originals": {}, "runs": []}
    for name in arguments.models:
        measure(name, arguments, results)


if __name__ == "__main__":
    main()
