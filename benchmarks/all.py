#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""All benchmarks of speed and memory, and the documents that show them.

    cmake --build build --target roundhouse benchmarks
    build/reference/bin/python benchmarks/all.py                 (sides.py says how to make build/reference)
    build/reference/bin/python benchmarks/all.py --device cuda   the block loop and tuning at Llama-3.1-8B's shape
    build/reference/bin/python benchmarks/all.py --quick --out build/quick.json

About 20 minutes on two processors. Every part is written to results/<device>.json as soon as it is measured, and one
that is not run again keeps its numbers: --missing goes on where an earlier run stopped. document.py then writes
docs/performance.md and docs/performance.html from results/.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

import document
import experts
import journal
import machine
import rounding
import scaling
import sides
import speed


def tuning(options):
    if options.device == "cuda":
        size = {"shape": "llama-3.1-8b", "blocks": 4, "iters": 200, "samples": 128, "seqlen": 2048, "torch_compile": True}
    else:
        size = {}
    if options.quick:
        size |= {"blocks": 2, "iters": 1, "samples": 8, "seqlen": 64}
    return speed.measure(options.roundhouse, options.rounds, device=options.device, alone=options.alone, **size)


def rounding_part(options):
    size = {"blocks": 2} if options.quick else {}
    return rounding.measure(options.roundhouse, options.rounds, llama_cpp=options.llama_cpp, **size)


def journal_part(options):
    return journal.measure(options.roundhouse, options.rounds, **({"blocks": 2, "samples": 8, "seqlen": 64} if options.quick else {}))


def block_loop(options):
    size = {"device": options.device, "rounds": 3}
    if options.device == "cuda":
        size |= {"shape": "llama-3.1-8b", "seqlen": 2048, "iters": 50}
    if options.quick:
        size |= {"batch": 2, "seqlen": 64, "iters": 2, "rounds": 1}

    result = experts.block_loop(options.roundhouse, **size)
    if options.device == "cpu":  # what a second thread adds: processors may be two threads of one core
        result["one_thread"] = experts.block_loop(options.roundhouse, **size | {"threads": 1, "rounds": 1, "iters": 1})
    return result


def experts_part(options):
    return experts.measure(options.roundhouse, **({"batch": 2, "seqlen": 64, "iters": 1, "rounds": 1} if options.quick else {}))


def kernels(options):
    return experts.program_json(options.roundhouse.with_name("bandwidth"), "0", *(["W4A16"] if options.quick else []))


def scaling_part(options):
    quick = {"blocks": [1, 2], "hidden": [512], "seqlen": [64], "threads": [1]}
    return scaling.measure(options.roundhouse, *([quick] if options.quick else []))


def export(options):
    # Each format twice: with all memory, and with less than the model takes.
    size = ["--gigabytes", "0.5", "--formats", "fake"] if options.quick else ["--limit", "800MB", "--formats", "auto_round", "fake"]
    text = subprocess.run([sys.executable, pathlib.Path(__file__).with_name("streaming.py"), "--roundhouse",
                           options.roundhouse, *size], check=True, stdout=subprocess.PIPE, text=True).stdout
    print(text, end="", flush=True)
    rows = [{"what": what, "peak_bytes": int(peak) * 10**6, "files_bytes": float(files) * 1e9, "seconds": int(seconds)}
            for what, peak, files, seconds in
            re.findall(r"^(\S.*?): peak (\d+) MB.*? files of ([\d.]+) GB, (\d+) s", text, re.MULTILINE)]
    return {"model": text.splitlines()[0], "arguments": size, "rows": rows}


def sources(options):
    size = ["--sources", *(["--gigabytes", "0.5"] if options.quick else [])]
    text = subprocess.run([sys.executable, pathlib.Path(__file__).with_name("streaming.py"), "--roundhouse",
                           options.roundhouse, *size], check=True, stdout=subprocess.PIPE, text=True).stdout
    print(text, end="", flush=True)
    rows = [{"what": what, "peak_bytes": int(peak) * 10**6, "bytes": float(size) * 1e9, "rate": int(rate) * 1e6,
             "reading": int(reading) * 1e6, "seconds": float(seconds)}
            for what, peak, size, rate, reading, seconds in
            re.findall(r"^(\S.*?): peak (\d+) MB.*\n\1: ([\d.]+) GB at (\d+) MB/s, reading alone (\d+) MB/s, .* of ([\d.]+) s", text,
                       re.MULTILINE)]
    return {"model": text.splitlines()[0], "arguments": size, "rows": rows}


PARTS = {"cpu": {"tuning": tuning, "block_loop": block_loop, "rounding": rounding_part, "kernels": kernels,
                 "scaling": scaling_part, "journal": journal_part, "export": export, "sources": sources,
                 "experts": experts_part},
         "cuda": {"block_loop": block_loop, "tuning": tuning}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=sides.PROGRAM)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS["cpu"], help="only these")
    parser.add_argument("--missing", action="store_true", help="only parts that the JSON does not hold yet")
    parser.add_argument("--rounds", type=int, default=2, help="of the reference and us in turns")
    parser.add_argument("--alone", action="store_true", help="tuning without the reference; with --out")
    parser.add_argument("--quick", action="store_true", help="sizes that only show that everything works")
    parser.add_argument("--llama-cpp", type=pathlib.Path, help="a Python with llama-cpp-python: see rounding.py")
    parser.add_argument("--out", type=pathlib.Path, help="the JSON, instead of results/<device>.json")
    options = parser.parse_args()

    if unknown := set(options.parts or []) - PARTS[options.device].keys():
        parser.error(f"{', '.join(unknown)}: not measured on {options.device}")
    if options.alone and not options.out:
        parser.error("--alone needs --out: the documents compare")
    out = options.out or document.RESULTS / f"{options.device}.json"
    result = json.loads(out.read_text()) if out.exists() else {}
    here = machine.describe()
    if result and result["machine"] != here and not options.parts and not options.missing:
        result = {}
    result.setdefault("machine", here)
    parts = result.setdefault("parts", {})
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, measure in PARTS[options.device].items():
        if (options.parts and name not in options.parts) or (options.missing and name in parts):
            continue
        start = datetime.datetime.now(datetime.timezone.utc)
        part = {"date": start.isoformat(timespec="seconds"), "commit": machine.commit(), "load_before": os.getloadavg()[0],
                **measure(options)}
        if here != result["machine"]:
            part["machine"] = here
        part["took_seconds"] = (datetime.datetime.now(datetime.timezone.utc) - start).total_seconds()
        print(f"-- {name}: {part['took_seconds']:.0f} s", flush=True)
        parts[name] = part
        out.write_text(json.dumps(result, indent=1) + "\n")
        if out.parent == document.RESULTS:
            document.write()


if __name__ == "__main__":
    main()
