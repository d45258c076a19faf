#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A trained Llama whose widths are multiples of 256, which k-quants need: 4 blocks of width 256, taught by tinystories-656k.

    build/venv/bin/python benchmarks/train_wide.py build/real/wide        (torch and transformers in it; about 15 minutes)

It learns the teacher's distributions on stories that the teacher tells. The vocabulary and tokenizer are the teacher's.
"""

import argparse
import copy
import math
import pathlib
import shutil

import torch
from transformers import AutoModelForCausalLM

import sides

LENGTH, TOLD, BATCH = 256, 128, 8  # tokens of a story; stories that are told together; of a step


def tell(teacher):
    start = torch.full((TOLD, 1), teacher.config.bos_token_id)
    return teacher.generate(start, attention_mask=torch.ones_like(start), do_sample=True, top_k=0, min_new_tokens=LENGTH - 1,
                            max_new_tokens=LENGTH - 1, pad_token_id=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=1200)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    teacher = AutoModelForCausalLM.from_pretrained(sides.EXAMPLE_MODEL, dtype=torch.float32).eval()
    config = copy.deepcopy(teacher.config)
    config.update({"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 8,
                   "num_key_value_heads": 4, "head_dim": 32})
    student = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.05)
    warm = 50
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, step / warm) * (0.05 + 0.95 * (1 + math.cos(math.pi * step / arguments.steps)) / 2))
    for step in range(arguments.steps):
        if step % (TOLD // BATCH) == 0:
            with torch.inference_mode():
                stories = tell(teacher)
        batch = stories[step % (TOLD // BATCH) * BATCH:][:BATCH].clone()
        with torch.no_grad():
            taught = teacher(batch).logits.log_softmax(-1)
        loss = torch.nn.functional.kl_div(student(batch).logits.log_softmax(-1).flatten(0, 1), taught.flatten(0, 1),
                                          log_target=True, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}: divergence {loss.item():.4f}", flush=True)
    student.to(torch.bfloat16).save_pretrained(arguments.out)
    for file in sides.EXAMPLE_MODEL.glob("*token*.json"):
        shutil.copy(file, arguments.out)


if __name__ == "__main__":
    main()
