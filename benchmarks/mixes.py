#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Divergence of a mix beside the one scheme of the same size, tuned alike, on tinystories-656k.

    python3 benchmarks/mixes.py

Bytes are those of the exports' weights; the mix has at most as many bits a weight as the scheme beside it.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import sides

PAIRS = [("W3A16G32", "[W2A16G32, W3A16G32, W4A16G32]", "3.5 bits")]  # 3 bits, and a float16 scale for 32 weights


def measure(program, work, scheme, seed, iters):
    """(KLD, bytes) of an export."""
    output = work / "export"
    command = [program, "run", pathlib.Path(__file__).parent / "recipe.yaml", "--overwrite"]
    for setting in (f"output={output}", f"scheme={scheme}", f"calibration.seed={seed}", f"tuning.iters={iters}",
                    f"evaluation={{data: {sides.HELD_OUT}}}"):
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    export = json.loads((output / "roundhouse/report.json").read_text())["models"][-1]
    return export["kld"]["mean"], export["bytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=sides.PROGRAM)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--iters", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for alone, mix, target in PAIRS:
            for name, scheme in ((alone, alone), (f"{mix} at {target}", f"{{mix: {mix}, target: {target}}}")):
                runs = [measure(arguments.roundhouse, pathlib.Path(work), scheme, seed, arguments.iters)
                        for seed in arguments.seeds]
                print(f"{name}: KLD {statistics.mean(kld for kld, _ in runs):.5f}",
                      [round(kld, 5) for kld, _ in runs], f"bytes {max(size for _, size in runs)}", flush=True)


if __name__ == "__main__":
    main()
