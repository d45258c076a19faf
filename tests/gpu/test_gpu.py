#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What only a GPU can show, of a tree built with tests. Writes one JSON; a part that is run again replaces its own.

    tests/gpu/test_gpu.py [--parts kernels presets ...] [--out gpu.json]

kernels     the kernels against the scalar ones, bit for bit
memcheck    the same, on hard inputs, under compute-sanitizer, where it is installed
racecheck   as memcheck
presets     every preset, rounded plainly on the GPU: the bytes of the weights are those of a run on the CPU; then tuned
quickstart  the quickstart twice: the same bytes
block_loop  benchmarks/all.py: an iteration of one block of Llama-3.1-8B's shape beside its matrix products
tuning      the same: four such blocks, tuned from start to checkpoint, without the reference; scaled to 32

Each part takes at most 8 minutes and can be run alone. The last needs a Python with torch and transformers. What was
skipped is said, within a part too; a part of which nothing ran has not passed, and no parts at all is a failure.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs/recipes/quickstart.yaml"
SECONDS = 480


class Skipped(Exception):
    """A part that this machine lacks something for."""


def run(*command):
    """Output and status of a command that gets SECONDS."""
    print("+", *command, flush=True)
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=SECONDS)
    return done.stdout, done.returncode


def must(*command):
    text, status = run(*command)
    if status != 0:
        raise RuntimeError(text[-2000:])
    return text


def digests(folder):
    """Of the weights' files: configurations name no device, but reports have times."""
    files = sorted(file for pattern in ("*.safetensors", "*.gguf") for file in folder.rglob(pattern))
    if not files:
        raise RuntimeError(f"{folder} has no weights")
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def short_recipe(work):
    """The quickstart's without its evaluation, which runs on the CPU."""
    examples = ROOT / "configs/examples"
    path = work / "recipe.yaml"
    path.write_text(json.dumps({
        "version": 1, "model": str(examples / "tinystories-656k"), "output": "out", "scheme": "W4A16", "formats": ["fake"],
        "calibration": {"data": str(examples / "texts/tinystories-calibration.jsonl"), "samples": 8, "seqlen": 128}}))
    return path


def quantize(options, output, recipe=RECIPE, **settings):
    words = [word for name, value in settings.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]
    text = must(options.build / "bin/roundhouse", "run", recipe, "--set", f"output={output}", *words)
    device = settings.get("device")
    if device != "cpu" and "has no kernels for" in text:
        raise RuntimeError("the plugins were built without nvcc: " + text[-2000:])
    return text


def kernel_tests(options, work, under=(), tests="*"):
    """Runs kernels_cuda_test, by the command `under`. GoogleTest passes where all tests were skipped, for want of a device."""
    program = options.build / "bin/kernels_cuda_test"
    if not program.exists():
        raise RuntimeError(f"{program} is missing: the tree was built without tests, or without nvcc")
    report = work / "tests.json"
    text = must(*under, program, f"--gtest_filter={tests}", f"--gtest_output=json:{report}", "--gtest_brief=1")
    done = [(f"{test['classname']}.{test['name']}", test["result"])
            for suite in json.loads(report.read_text())["testsuites"] for test in suite["testsuite"]]
    skipped = [name for name, how in done if how == "SKIPPED"]
    if len(skipped) == len(done):
        raise RuntimeError(f"all {len(done)} tests were skipped: {text[-2000:].strip()}")
    return {"ran": len(done) - len(skipped), "not_run": skipped}


def kernels(options, work):
    return kernel_tests(options, work)


def sanitized(tool):
    def part(options, work):
        program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
        if not program:
            raise Skipped("compute-sanitizer is not installed")
        return kernel_tests(options, work, (program, "--tool", tool, "--error-exitcode", "9"), "*Hard*")

    return part


def presets(options, work):
    rows = json.loads(must(options.build / "bin/roundhouse", "schemes", "--json"))
    names = [row["name"] for row in (rows["schemes"] if isinstance(rows, dict) else rows)]
    same, other, not_run, begin, recipe = [], [], [], time.monotonic(), short_recipe(work)
    for number, name in enumerate(names):
        if time.monotonic() - begin > SECONDS - 60:
            raise RuntimeError(f"no time for {len(names) - number} of {len(names)} presets; as on the CPU: {same}, not: {other}")
        plain = {"recipe": recipe, "scheme": name, "tuning__iters": 0}
        try:
            quantize(options, work / f"{number}-cpu", device="cpu", **plain)
        except RuntimeError as failure:  # not for this model, or not without tuning
            not_run.append(f"{name}, not on a CPU either: " + str(failure).strip().splitlines()[-1])
            continue
        quantize(options, work / f"{number}-cuda", device=options.device, **plain)
        (same if digests(work / f"{number}-cpu") == digests(work / f"{number}-cuda") else other).append(name)
        quantize(options, work / f"{number}-tuned", device=options.device, **plain | {"tuning__iters": 5})
    if other or not same:
        raise RuntimeError("other bytes than the CPU's: " + ", ".join(other) if other else f"none was compared: {not_run}")
    return {"same_bytes": same, "not_run": not_run}


def quickstart(options, work):
    made = []
    for number in range(2):
        begin = time.monotonic()
        quantize(options, work / str(number), device=options.device)
        made.append((digests(work / str(number)), time.monotonic() - begin))
    if made[0][0] != made[1][0]:
        raise RuntimeError("two runs gave other bytes")
    return {"digests": made[0][0], "seconds": [seconds for _, seconds in made]}


def benchmark(name):
    def part(options, work):
        out = work / "benchmark.json"
        must(sys.executable, ROOT / "benchmarks/all.py", "--device", "cuda", "--parts", name, "--alone", "--rounds", "1",
             "--roundhouse", options.build / "bin/roundhouse", "--out", out)
        result = json.loads(out.read_text())
        part = {"machine": result["machine"], **result["parts"][name]}
        if name == "tuning":
            starts = part["rounds"][0]["roundhouse"]["block_starts"]
            a_block = statistics.median(b - a for a, b in zip(starts, starts[1:]))
            part["seconds_of_32_blocks"] = 32 * a_block
        return part

    return part


PARTS = {"kernels": kernels, "memcheck": sanitized("memcheck"), "racecheck": sanitized("racecheck"), "presets": presets,
         "quickstart": quickstart, "block_loop": benchmark("block_loop"), "tuning": benchmark("tuning")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=pathlib.Path, help="build/gpu.json")
    options = parser.parse_args()
    out = options.out or options.build / "gpu.json"
    result = json.loads(out.read_text()) if out.exists() else {}
    states = []
    for name in options.parts:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as work:
            try:
                state, part = "passed", PARTS[name](options, pathlib.Path(work))
            except Skipped as reason:
                state, part = "skipped", {"why": str(reason)}
            except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as failure:
                state, part = "failed", {"why": str(failure)}
        states.append(state)
        result[name] = {"state": state, **part, "took_seconds": round(time.monotonic() - begin, 1)}
        out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {state.upper() if state == 'failed' else state}, {result[name]['took_seconds']} s", part.get("why", ""), flush=True)
        for what in part.get("not_run", []):
            print(f"  not run: {what}", flush=True)
    print(f"{out}: " + ", ".join(f"{states.count(state)} {state}" for state in ("passed", "failed", "skipped")))
    sys.exit("failed" in states or "passed" not in states)


if __name__ == "__main__":
    main()
