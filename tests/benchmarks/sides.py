"""The two sides of a benchmark: command lines of the reference (auto-round 0.16.1) and of roundhouse for the same run.

The benchmarks are started with the Python of a virtual environment of the reference's own:

    python3 -m venv build/reference
    build/reference/bin/pip install auto-round==0.16.1 torch==2.11.0 transformers==5.23.0
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the repository

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "configs" / "examples"
EXAMPLE_MODEL = EXAMPLES / "tinystories-656k"
CALIBRATION = EXAMPLES / "texts" / "tinystories-calibration.jsonl"
HELD_OUT = EXAMPLES / "texts" / "tinystories-heldout.jsonl"
PROGRAM = REPOSITORY / "build" / "bin" / "roundhouse"


@dataclasses.dataclass
class Run:
    model: pathlib.Path
    output: pathlib.Path
    scheme: str
    iters: int  # 0: plain rounding
    samples: int
    seqlen: int
    batch_size: int = 8
    seed: int = 42


def reference_command(run, export_format, torch_compile=False):
    options = {
        "model": run.model, "output_dir": run.output, "scheme": run.scheme, "iters": run.iters, "nsamples": run.samples,
        "seqlen": run.seqlen, "batch_size": run.batch_size, "seed": run.seed, "dataset": CALIBRATION,
        "format": export_format, "device": "cpu",
    }
    # Without these flags, iters 0 means searched rounding, or a path that never builds the model.
    flags = ["--disable_opt_rtn", "--disable_model_free"] if run.iters == 0 else []
    if not torch_compile:
        flags.append("--disable_torch_compile")
    return [sys.executable, "-m", "auto_round", *(f"--{name}={value}" for name, value in options.items()), *flags]


def roundhouse_command(run, program=PROGRAM):
    settings = {
        "model": run.model, "output": run.output, "scheme": run.scheme, "tuning.iters": run.iters,
        "calibration.samples": run.samples, "calibration.seqlen": run.seqlen,
        "calibration.batch_size": run.batch_size, "calibration.seed": run.seed,
    }
    command = [str(program), "run", str(pathlib.Path(__file__).with_name("recipe.yaml"))]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return command


def execute(command, log):
    """Runs a command with its output in the file `log`. Returns its wall time in seconds and its peak memory in bytes:
    the largest resident size of any one process that it started."""
    with open(log, "w") as out:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        end_of_log = pathlib.Path(log).read_text()[-4000:]
        sys.exit(f"{' '.join(command)}\nfailed with {process.returncode}:\n{end_of_log}")
    return seconds, usage.ru_maxrss * 1024


def reference_checkpoint(output):
    """The one checkpoint below the reference's output folder: it names the folders between itself."""
    configs = list(pathlib.Path(output).rglob("config.json"))
    if len(configs) != 1:
        sys.exit(f"{output} holds {len(configs)} checkpoints, expected one")
    return configs[0].parent
