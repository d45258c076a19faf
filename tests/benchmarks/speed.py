#!/usr/bin/env python3
"""Wall time and peak memory of one quantization on the CPU, the reference's and ours, on the same model.

    build/reference/bin/python tests/benchmarks/speed.py          (sides.py says how to make build/reference)

The model is randomly initialised and has the block shapes of Qwen2.5-0.5B, 4 blocks, and the vocabulary of the example
model. Both sides run the same recipe (W4A16, 50 iterations, 32 samples of 256 tokens, batch 8) from the start of the
process to the checkpoint on disk; they alternate, so that what else the machine does hits both.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import tempfile

import sides


def make_model(target):
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_attention_heads=14, num_key_value_heads=2, num_hidden_layers=4,
        vocab_size=2048, max_position_embeddings=2048, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2)
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(target)
    for file in sides.EXAMPLE_MODEL.glob("*token*.json"):
        shutil.copy(file, target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=sides.PROGRAM)
    parser.add_argument("--sides", nargs="+", choices=["reference", "roundhouse"], default=["reference", "roundhouse"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-compile", action="store_true", help="let the reference use torch.compile, its default")
    parser.add_argument("--json", type=pathlib.Path, default=sides.REPOSITORY / "build" / "speed.json",
                        help="where every number goes")
    arguments = parser.parse_args()

    measured = {name: [] for name in arguments.sides}
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        model = work / "model"
        make_model(model)
        for round in range(arguments.rounds):
            for name in arguments.sides:
                run = sides.Run(model, work / f"{name}-{round}", "W4A16", iters=50, samples=32, seqlen=256)
                if name == "reference":
                    command = sides.reference_command(run, "auto_round", arguments.torch_compile)
                else:
                    command = sides.roundhouse_command(run, arguments.roundhouse)
                seconds, peak = sides.execute(command, log=f"{run.output}.log")
                measured[name].append({"seconds": seconds, "peak_bytes": peak})
                print(f"round {round + 1}: {name:<11} {seconds:8.1f} s {peak / 2**20:8.0f} MiB", flush=True)

    arguments.json.write_text(json.dumps(measured, indent=1) + "\n")
    if len(measured) == 2:
        for what in ("seconds", "peak_bytes"):
            ratios = [theirs[what] / ours[what] for theirs, ours in zip(measured["reference"], measured["roundhouse"])]
            print(f"reference / roundhouse, {what}: median {statistics.median(ratios):.2f}, each "
                  + ", ".join(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
