#!/usr/bin/env python3
"""Peak memory of exporting a model that is larger than what stays in memory: 2 GB of random bfloat16 weights in shards.

    tests/benchmarks/streaming.py [--gigabytes 2] [--formats auto_round fake ...]

Prints the largest resident size beside that of one block and of the files. Needs nothing but Python and free disk.
"""

import argparse
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "configs/examples/tinystories-656k"
HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, VOCAB = 2048, 8192, 32, 8, 2048  # blocks of Llama-3.2-1B


def block_tensors(i):
    kv = HIDDEN * KV_HEADS // HEADS
    shapes = {"self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (kv, HIDDEN), "self_attn.v_proj": (kv, HIDDEN),
              "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (FEED_FORWARD, HIDDEN),
              "mlp.up_proj": (FEED_FORWARD, HIDDEN), "mlp.down_proj": (HIDDEN, FEED_FORWARD),
              "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,)}
    return {f"model.layers.{i}.{name}.weight": shape for name, shape in shapes.items()}


def size(shape):
    elements = 2
    for n in shape:
        elements *= n
    return elements


def random_bfloat16(nbytes, norm):
    """Bytes whose exponents are those of 0.008 to 0.06 (norms: ones)."""
    if norm:
        return struct.pack("<H", 0x3F80) * (nbytes // 2)
    data = bytearray(os.urandom(nbytes))
    high = bytes(0x3C | (b & 0x80) | (b & 1) for b in range(256))  # sign and an exponent of two values
    data[1::2] = data[1::2].translate(high)
    return bytes(data)


def write_model(folder, gigabytes):
    per_block = sum(map(size, block_tensors(0).values()))
    blocks = max(1, round(gigabytes * 1e9 / per_block))
    tensors = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for i in range(blocks):
        tensors.update(block_tensors(i))
    header, at = {}, 0
    for name, shape in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size(shape)]}
        at += size(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            file.write(random_bfloat16(size(shape), len(shape) == 1))
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16", "vocab_size": VOCAB,
        "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD, "num_hidden_layers": blocks,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True, "hidden_act": "silu"}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (EXAMPLE / name).exists():
            shutil.copy(EXAMPLE / name, folder)
    return blocks, per_block, at


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roundhouse", type=pathlib.Path, default=ROOT / "build/bin/roundhouse")
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--formats", nargs="+", default=["auto_round", "llm_compressor", "fake"])
    parser.add_argument("--shard", default="500MB")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "model").mkdir()
        blocks, per_block, total = write_model(work / "model", arguments.gigabytes)
        print(f"model: {total / 1e9:.2f} GB, {blocks} blocks of {per_block / 1e6:.0f} MB")
        for name in arguments.formats:
            recipe = work / "recipe.yaml"
            recipe.write_text(json.dumps({"version": 1, "model": str(work / "model"), "output": str(work / "out"),
                                          "scheme": "W4A16", "tuning": {"iters": 0}, "formats": [name],
                                          "max_shard_size": arguments.shard}))
            subprocess.run([arguments.roundhouse, "run", recipe, "--overwrite"], check=True, stdout=subprocess.DEVNULL)
            report = json.loads((work / "out/roundhouse/report.json").read_text())
            shards = len(list((work / "out").glob("*.safetensors")))
            print(f"{name}: peak {report['peak_memory_bytes'] / 1e6:.0f} MB, {shards} files of "
                  f"{report['models'][-1]['bytes'] / 1e9:.2f} GB, {report['seconds']['total']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
