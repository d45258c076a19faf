#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of tuning, the reference's and ours, on the same model.

    build/reference/bin/python benchmarks/speed.py          (sides.py says how to make build/reference)

The model is randomly initialised and has the block shapes of a known one. Both sides run the same recipe (W4A16) from
the start of the process to the checkpoint on disk; they alternate, so that what else the machine does hits both.
"""

import json
import pathlib
import tempfile

import models
import sides


def measure(program, rounds=2, shape="qwen2.5-0.5b", blocks=4, iters=10, samples=32, seqlen=256, device="cpu",
            torch_compile=False, alone=False):
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        model = models.make_model(work / "model", models.SHAPES[shape], blocks)
        texts = models.write_texts(work / "texts.jsonl", samples, seqlen)

        def run(name, number):
            return sides.Run(model, work / f"{name}-{number}", "W4A16", iters, samples, seqlen, data=texts, device=device)

        def watched(execute):
            if device == "cpu":
                return execute()
            with sides.DeviceMemory() as memory:
                measured = execute()
            return measured | {"device_peak_bytes": memory.peak - memory.before}

        contenders = {
            "reference": lambda n: watched(
                lambda: sides.execute_reference(run("reference", n), torch_compile=torch_compile)),
            "roundhouse": lambda n: watched(lambda: sides.execute_roundhouse(run("roundhouse", n), program)),
        }
        if alone:
            del contenders["reference"]
        results = sides.alternate(rounds, contenders, "tuning ")
    return {"shape": shape, "block_parameters": models.block_parameters(models.SHAPES[shape]), "blocks": blocks,
            "iters": iters, "samples": samples, "seqlen": seqlen, "batch": 8, "device": device,
            "torch_compile": torch_compile, "rounds": results}


def main():
    parser = sides.parser(__doc__, rounds=2)
    parser.add_argument("--shape", choices=models.SHAPES, default="qwen2.5-0.5b")
    for name, default in (("blocks", 4), ("iters", 10), ("samples", 32), ("seqlen", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--torch-compile", action="store_true", help="let the reference use torch.compile, its default")
    options = vars(parser.parse_args())
    program, file = options.pop("roundhouse"), options.pop("json")
    result = measure(program, **options)
    for what in ("seconds", "processor_seconds", "peak_bytes"):
        ratio = sides.median(result["rounds"], "reference", what) / sides.median(result["rounds"], "roundhouse", what)
        print(f"reference / roundhouse, {what}: {ratio:.2f}")
    if file:
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
