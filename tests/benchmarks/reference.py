"""Runs the reference (auto-round 0.16.1) as a user would, by its command line, and evaluates checkpoints with transformers.

The benchmarks are started with the Python of a virtual environment of the reference's own:

    python3 -m venv build/reference
    build/reference/bin/pip install auto-round==0.16.1 torch==2.11.0 transformers==5.23.0
"""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "configs" / "examples"


def command(model, output, *, scheme, iters, samples, seqlen, batch_size, seed, data, export_format):
    """The reference's command line for one run. `iters` 0 means plain rounding, without its search."""
    options = {
        "model": model, "output_dir": output, "scheme": scheme, "iters": iters, "nsamples": samples, "seqlen": seqlen,
        "batch_size": batch_size, "seed": seed, "dataset": data, "format": export_format, "device": "cpu",
    }
    flags = ["--disable_torch_compile", "--disable_model_free"] + (["--disable_opt_rtn"] if iters == 0 else [])
    return [sys.executable, "-m", "auto_round", *(f"--{name}={value}" for name, value in options.items()), *flags]


def run(arguments, log):
    """Runs a command with its output in `log`; a failure shows the log's end."""
    with open(log, "w") as out:
        status = subprocess.run(arguments, stdout=out, stderr=subprocess.STDOUT).returncode
    if status != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}\nfailed with {status}:\n{pathlib.Path(log).read_text()[-4000:]}")


def exported_checkpoint(output):
    """The one checkpoint below the reference's output folder: it chooses the names of the folders itself."""
    configs = list(pathlib.Path(output).rglob("config.json"))
    if len(configs) != 1:
        raise SystemExit(f"{output} holds {len(configs)} checkpoints, expected one")
    return configs[0].parent


def copy_as_bfloat16(source, target):
    """A bfloat16 copy of a model. The reference's `fake` export of a float32 model holds the unquantized weights."""
    import torch
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(target)
    for file in pathlib.Path(source).glob("*token*.json"):
        shutil.copy(file, target)


def perplexity(model_dir, tokenizer_file, data, seqlen):
    """exp of the mean negative log-likelihood a token, in float32; a record is cut at `seqlen`, its first token not scored."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    total, tokens = 0.0, 0
    for line in pathlib.Path(data).read_text().splitlines():
        ids = torch.tensor(tokenizer.encode(json.loads(line)["text"]).ids[:seqlen])
        with torch.inference_mode():
            logits = model(ids[None, :-1]).logits[0]
        total += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
        tokens += len(ids) - 1
    return math.exp(total / tokens)
