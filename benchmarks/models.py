# SPDX-License-Identifier: Apache-2.0
"""Random models with the block shapes of known ones, and texts of any length for them."""

import json
import pathlib
import shutil
import subprocess
import sys

import sides

QWEN3 = {"hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "rope_theta": 1e6}
SHAPES = {
    "qwen2.5-0.5b": {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14,
                     "num_key_value_heads": 2, "rope_theta": 1e6},
    "llama-3.1-8b": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
                     "num_key_value_heads": 8, "rope_theta": 5e5},
    "qwen3-30b-a3b": QWEN3 | {"model_type": "qwen3_moe", "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
                              "intermediate_size": 6144, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
    # Its experts side by side.
    "qwen3-30b-a3b, dense": QWEN3 | {"model_type": "qwen3", "intermediate_size": 128 * 768},
}


def block_parameters(shape):
    """Of the linear layers of one block without experts."""
    hidden, kv = shape["hidden_size"], shape["num_key_value_heads"] * shape["hidden_size"] // shape["num_attention_heads"]
    return 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * shape["intermediate_size"]


def make_model(target, shape, blocks):
    """bfloat16, with the vocabulary of the example model. shape: one of SHAPES, or fields like theirs. In a process of
    its own: the memory of this one counts in the peak of those that it starts, until they are their own program."""
    subprocess.run([sys.executable, __file__, target, json.dumps(shape | {"num_hidden_layers": blocks})], check=True)
    for file in sides.EXAMPLE_MODEL.glob("*token*.json"):
        shutil.copy(file, target)
    return target


def save_random(target, config):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        **config, vocab_size=2048, max_position_embeddings=4096, rms_norm_eps=1e-6, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(target)


def write_texts(file, samples, seqlen):
    """As many texts, each of at least `seqlen` tokens: the stories of the calibration set, one after the other."""
    stories = [json.loads(line) for line in sides.CALIBRATION.read_text().splitlines()]
    stories = [story if isinstance(story, str) else story["text"] for story in stories]
    at, lines = 0, []
    while len(lines) < samples:
        text = ""
        while len(text) < 6 * seqlen:  # a token is about 4 characters
            text += stories[at % len(stories)] + "\n"
            at += 1
        lines.append(json.dumps({"text": text}))
    file.write_text("\n".join(lines) + "\n")
    return file


if __name__ == "__main__":
    save_random(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]))
