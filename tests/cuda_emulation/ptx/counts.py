# SPDX-License-Identifier: Apache-2.0
"""Weighs the counts of cuda_counts_program and writes them as JSON, with the registers' spills that a kernel's PTX shows.

usage: counts.py cuda_counts_program out.json file.ptx...

Fails when a scheme costs more than LIMITS, or when a kernel has local memory.

A weight is the number of machine instructions that ptxas makes of one of PTX, as a warp issues them; a GPU's rate is
then (processors x 128 x clock) lane-instructions a second at best.
"""

import json
import pathlib
import re
import subprocess
import sys

# (pattern, kind, machine instructions): the first that matches.
COSTS = [
    (r"(ld\.param|mov|cvta)\..*", "control", 0),  # constants and copies are operands
    (r"(ld|st)\.local\..*", "local memory", 1),
    (r"(ld|st)\..*", "memory", 1),
    (r"(atom|red)\..*", "memory", 1),
    (r"shfl\..*", "shuffles", 1),
    (r"bar\..*|vote\..*|activemask.*", "shuffles", 1),
    (r"(bra|ret)(\..*)?", "control", 1),
    (r"(div|rem)\.[us]64", "integers", 70),
    (r"(div|rem)\.[us](16|32)", "integers", 18),
    (r"div\.rn\.f32", "division", 10),
    (r"ex2\.approx\.ftz\.f32", "division", 1),
    (r"rcp\.rn\.f32", "division", 8),
    (r"sqrt\.rn\.f32", "division", 10),
    (r"cvt\.[us]64\.[us]32", "integers", 1),
    (r"cvt\.u32\.u64|cvt\.[us](8|16)\.[us](16|32)|cvt\.[us]32\.[us]16|cvt\.u16\.u32", "control", 0),
    (r"cvt\..*", "conversions", 1),
    (r"mul\.wide\..*|mad\.wide\..*", "integers", 1),
    (r"(mul|mad)\.lo\.[us]64", "integers", 4),
    (r"setp\..*\.[bus]64|(add|sub|and|or|xor|not|shl|shr|neg|selp|min|max)\.[bus]64", "integers", 2),
    (r".*\.f32", "floats", 1),
    (r".*\.(f16|bf16|f16x2|bf16x2)", "floats", 1),
    (r".*\.pred", "control", 1),
    (r".*\.[bus](8|16|32)", "integers", 1),
]
# Instructions a weight. With more, arithmetic and not memory would bound an iteration far.
LIMITS = {"int4, groups of 128": 45, "int4, groups of 32": 80, "mxfp4": 80, "nvfp4": 120, "q4_0": 130, "q2_k": 130,
          "q4_k": 130, "q6_k": 130,
          # Of an element of activations: with these memory takes as long, 2.8 TB/s beside 17 T lane-instructions.
          "silu times up": 60, "rotary positions": 24, "loss and gradient": 36}  # fmt: skip
# Weights of a Llama-3.1-8B block, but for what runs over the activations of 8 x 2048 tokens.
ELEMENTS = {"silu times up": 16384 * 14336, "rotary positions": 16384 * 5120, "loss and gradient": 16384 * 4096}
WEIGHTS = 218e6

KINDS = ["memory", "local memory", "floats", "division", "integers", "conversions", "shuffles", "control"]


def cost(instruction):
    for pattern, kind, weight in COSTS:
        if re.fullmatch(pattern, instruction):
            return kind, weight
    raise SystemExit("counts.py: no weight for " + instruction)


def main():
    program, out, *sources = sys.argv[1:]
    counts = subprocess.run([program], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    rows = {}
    for line in counts.splitlines():
        scheme, part, instruction, times = line.split("\t")
        kind, weight = cost(instruction)
        row = rows.setdefault((scheme, part), dict.fromkeys(KINDS, 0.0))
        row[kind] += weight * float(times)
    local = sorted({name for source in sources for name in re.findall(
        r"\.entry \w*?\d([a-z_]+_kernel)\w*(?:(?!\.entry)[\s\S])*?\.local ", pathlib.Path(source).read_text(encoding="utf-8"))})
    result = {"rows": [{"scheme": scheme, "pass": part, "total": round(sum(row.values()), 1),
                        "limit": LIMITS.get(scheme), "elements": ELEMENTS.get(scheme, WEIGHTS), **{kind: round(row[kind], 1) for kind in KINDS}} for (scheme, part), row in rows.items()],
              "kernels_with_local_memory": local}
    pathlib.Path(out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in result["rows"]:
        print("%-22s %-8s %6.1f  %s" % (row["scheme"], row["pass"], row["total"], " ".join("%s %.1f" % (k, row[k]) for k in KINDS)))
    print("local memory:", ", ".join(local) or "none")
    over = ["%s, %s: %.1f, more than %d" % (row["scheme"], row["pass"], row["total"], LIMITS[row["scheme"]])
            for row in result["rows"] if row["total"] > LIMITS.get(row["scheme"], float("inf"))]
    over += ["local memory in " + name for name in local]
    if over:
        raise SystemExit("counts.py: " + "; ".join(over))


if __name__ == "__main__":
    main()
