# SPDX-License-Identifier: Apache-2.0
"""The two sides of a benchmark: command lines of the reference (auto-round 0.16.1) and of roundhouse for the same run.

The benchmarks are started with the Python of a virtual environment of the reference's own:

    python3 -m venv build/reference
    build/reference/bin/pip install auto-round==0.16.1 torch==2.11.0 transformers==5.23.0
"""

import argparse
import dataclasses
import datetime
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the repository

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
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
    iters: int  # 0: rounding
    samples: int
    seqlen: int
    batch_size: int = 8
    seed: int = 42
    data: pathlib.Path = CALIBRATION
    device: str = "cpu"
    search: bool = False  # searched rounding instead of plain
    algorithm: str = "signround"
    lr: float | None = None  # None: what each side takes by itself
    settings: dict = dataclasses.field(default_factory=dict)  # more keys of our recipe


def reference_command(run, export_format, torch_compile=False, model_free=False):
    options = {
        "model": run.model, "output_dir": run.output, "scheme": run.scheme, "iters": run.iters, "nsamples": run.samples,
        "seqlen": run.seqlen, "batch_size": run.batch_size, "seed": run.seed, "dataset": run.data,
        "format": export_format, "device": run.device,
    }
    if run.lr is not None:
        options["lr"] = run.lr
    flags = ["--disable_torch_compile"] * (not torch_compile) + ["--enable_alg_ext"] * (run.algorithm == "signround2")
    # Left to itself, iters 0 means searched rounding, or a path that never builds the model.
    if run.iters == 0:
        flags.append("--model_free" if model_free else "--disable_model_free")
        if not run.search and not model_free:
            flags.append("--disable_opt_rtn")
    return [sys.executable, "-m", "auto_round", *(f"--{name}={value}" for name, value in options.items()), *flags]


def roundhouse_command(run, program=PROGRAM, export_format="auto_round", threads=None):
    settings = {
        "model": run.model, "output": run.output, "scheme": run.scheme, "tuning.iters": run.iters,
        "tuning.search": str(run.search).lower(), "tuning.algorithm": run.algorithm, "calibration.data": run.data, "calibration.samples": run.samples,
        "calibration.seqlen": run.seqlen, "calibration.batch_size": run.batch_size, "calibration.seed": run.seed,
        "formats": f"[{export_format}]", "device": run.device,
    } | ({} if run.lr is None else {"tuning.lr": run.lr}) | run.settings
    command = [str(program), *(["--threads", str(threads)] if threads else []), "--log-file", f"{run.output}.progress",
               "run", str(pathlib.Path(__file__).with_name("recipe.yaml"))]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return command


class DeviceMemory:
    """The largest memory in use on the first GPU, in bytes, above what is in use when the measurement begins."""

    def __enter__(self):
        self.before = self.peak = self._used()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(0.2):
            self.peak = max(self.peak, self._used())

    @staticmethod
    def _used():
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
        return int(subprocess.run(query, check=True, stdout=subprocess.PIPE).stdout) * 2**20


def execute(command, log):
    """Runs a command with its output in the file `log`. Returns what it took: wall time and processor time (of all its
    processes) in seconds, the largest resident size of any one of its processes in bytes, and when each block began,
    in seconds from the start, as far as the output says so."""
    starts = {}
    with open(log, "wb") as out:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while text := process.stdout.read1():
            out.write(text)
            for block in re.findall(rb"Quantizing model\.layers\.(\d+):", text):
                starts.setdefault(int(block), time.monotonic() - start)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        end_of_log = pathlib.Path(log).read_text(errors="replace")[-4000:]
        sys.exit(f"{' '.join(map(str, command))}\nfailed with {process.returncode}:\n{end_of_log}")
    return {"seconds": seconds, "processor_seconds": usage.ru_utime + usage.ru_stime,
            "peak_bytes": usage.ru_maxrss * 1024, "block_starts": [starts[block] for block in sorted(starts)]}


def execute_roundhouse(run, program=PROGRAM, **more):
    """Like execute(), but the starts of the blocks come from the progress file: lines at their ends with their lengths."""
    began = datetime.datetime.now()
    measured = execute(roundhouse_command(run, program, **more), log=f"{run.output}.log")
    for line in pathlib.Path(f"{run.output}.progress").read_text().splitlines():
        if found := re.match(r"(\S+ \S+) info: block .*?(?:(\d+) min )?([\d.]+) s(?:, .* left)?$", line):
            end = (datetime.datetime.fromisoformat(found[1]) - began).total_seconds()
            measured["block_starts"].append(end - 60 * int(found[2] or 0) - float(found[3]))
    return measured


def execute_reference(run, export_format="auto_round", **more):
    return execute(reference_command(run, export_format, **more), log=f"{run.output}.log")


def alternate(rounds, contenders, say=""):
    """Runs every contender, {name: function(round)}, once a round. Returns [{name: measured}] and prints as it goes."""
    results = []
    for number in range(rounds):
        results.append({})
        for name, execute_one in contenders.items():
            measured = results[-1][name] = execute_one(number)
            print(f"{say}round {number + 1}: {name:<11} {measured['seconds']:8.1f} s, of processors "
                  f"{measured['processor_seconds']:8.1f} s, {measured['peak_bytes'] / 2**20:6.0f} MiB", flush=True)
    return results


def median(rounds, name, what):
    return statistics.median(measured[name][what] for measured in rounds)


def parser(description, rounds=None):
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--roundhouse", type=pathlib.Path, default=PROGRAM)
    result.add_argument("--json", type=pathlib.Path, help="also write every number to this file")
    if rounds:
        result.add_argument("--rounds", type=int, default=rounds)
    return result


def reference_checkpoint(output):
    """The one checkpoint below the reference's output folder: it names the folders between itself."""
    configs = list(pathlib.Path(output).rglob("config.json"))
    if len(configs) != 1:
        sys.exit(f"{output} holds {len(configs)} checkpoints, expected one")
    return configs[0].parent
