# SPDX-License-Identifier: Apache-2.0
"""What several processes would gain by host/tuning/shares.h, on paper: a Markdown table for docs/several-processes.md.

    python benchmarks/scaling.py

Nothing here is measured. Of an iteration of one block: the products of the batch's tokens (forward, and the gradients of
inputs and weights), which the processes share; and what a process sends, which is the gradients of the weights that others
own (float32, or as blocks compute where it has one unit) and the quantized weights that it owns to each other one, and the
inputs and targets of samples that another one's units want. Processors compute blocks in float32, or in bfloat16. Both in turn, since the host does not overlap them.
"""

TOKENS = 8 * 2048  # of an iteration, in units of 2,048
UNITS = 8
MODELS = {  # weights of a block's linears that a token passes, all of them, and the hidden size
    "Llama-3.1-8B": (218e6, 218e6, 4096),
    "Llama-3.1-70B": (856e6, 856e6, 8192),
    "Qwen3-235B-A22B": (218e6, 2.49e9, 4096),
}
MACHINES = {  # products a second of one process, bytes a second between two, bytes of a value
    "processors of 2 TFLOP/s, Ethernet of 25 Gbit/s": (2e12, 3.1e9, 4),
    "GPUs of 400 TFLOP/s, through host memory at 12 GB/s": (400e12, 12e9, 2),
}


def seconds(active, weights, hidden, rate, bandwidth, value, ranks):
    products = 6 * active * TOKENS / rate / ranks
    others = (ranks - 1) / ranks
    gradient = value if UNITS // ranks == 1 else 4
    sent = weights * others * (gradient + value) + 2 * TOKENS / ranks * hidden * value * others
    return products + sent / bandwidth, sent


def main():
    ranks = (1, 2, 4, 8)
    print("| model | machines | sent by each of 8 | " + " | ".join(f"{n}" for n in ranks[1:]) + " |")
    print("| --- | --- | --- |" + " --- |" * (len(ranks) - 1))
    for machine, (rate, bandwidth, value) in MACHINES.items():
        for model, (active, weights, hidden) in MODELS.items():
            times = [seconds(active, weights, hidden, rate, bandwidth, value, n) for n in ranks]
            gains = " | ".join(f"{times[0][0] / time:.1f}" for time, _ in times[1:])
            print(f"| {model} | {machine} | {times[-1][1] / 1e9:.2f} GB | {gains} |")


if __name__ == "__main__":
    main()
