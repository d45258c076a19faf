# SPDX-License-Identifier: Apache-2.0
"""A family that nobody has described, made of known parts: a descriptor in the user's folder, and no C++, makes it one that
is tuned and exported. It is a Llama with other keys, other names, and projections that are one tensor."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest
import unittest.mock

import torch
from safetensors.torch import load_file, save_file

import support

LLAMA = support.DATA / "models" / "tiny-llama"
DESCRIPTOR = """
version: 1
family: made_up
model_types: [made_up]
sizes:
  vocab: {key: net.vocab}
  hidden: {key: net.dim}
  intermediate: {key: net.ffn_dim}
  blocks: {key: net.depth}
  positions: {key: net.context}
  heads: {key: net.heads}
  kv_heads: {key: net.kv_heads}
  head_dim: {key: net.head_dim}
norm: {kind: rms, eps: 1.0e-6}
embedding: {name: tokens, scale: {key: net.embedding_scale}}
positions:
  rotary: {theta: {key: net.theta}, scaling: null}
block:
  prefix: blocks
  steps:
    - norm_in: norm_a
      attention: {qkv_proj: attn.qkv, layout: rows, o_proj: attn.out}
    - norm_in: norm_b
      mlp: {activation: silu, gate_up_proj: ffn.in, down_proj: ffn.out}
final_norm: norm
head: {name: unembed, tied: false}
"""
NAMES = {"model.embed_tokens": "tokens", "model.norm": "norm", "lm_head": "unembed", "model.layers": "blocks",
         "input_layernorm": "norm_a", "post_attention_layernorm": "norm_b", "self_attn.o_proj": "attn.out",
         "mlp.down_proj": "ffn.out"}


def renamed(name):
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


class MadeUpFamily(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        descriptors = self.folder / "config/roundhouse/architectures"
        descriptors.mkdir(parents=True)
        (descriptors / "made_up.yaml").write_text(DESCRIPTOR)
        environment = unittest.mock.patch.dict(os.environ, XDG_CONFIG_HOME=str(self.folder / "config"))
        environment.start()
        self.addCleanup(environment.stop)

        self.model = self.folder / "model"
        self.model.mkdir()
        llama = support.read_json(LLAMA / "config.json")
        support.write_json(self.model / "config.json", {"model_type": "made_up", "dtype": "bfloat16", "net": dict(
            vocab=llama["vocab_size"], dim=llama["hidden_size"], ffn_dim=llama["intermediate_size"],
            depth=llama["num_hidden_layers"], context=llama["max_position_embeddings"], heads=llama["num_attention_heads"],
            kv_heads=llama["num_key_value_heads"], head_dim=llama["head_dim"], theta=10000.0, embedding_scale=2.0)})
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (self.model / file).write_bytes((LLAMA / file).read_bytes())
        tensors = load_file(LLAMA / "model.safetensors")
        for block in range(llama["num_hidden_layers"]):
            parts = {part: tensors.pop(f"model.layers.{block}.{part}.weight") for part in (
                "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")}
            tensors[f"blocks.{block}.attn.qkv.weight"] = torch.cat(list(parts.values())[:3])
            tensors[f"blocks.{block}.ffn.in.weight"] = torch.cat(list(parts.values())[3:])
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"] / 2
        save_file({renamed(name): tensor.contiguous() for name, tensor in tensors.items()},
                  self.model / "model.safetensors", {"format": "pt"})

    def logits(self, model):
        (self.folder / "text.txt").write_text("Once upon a time there was a little girl named Lily.")
        support.roundhouse("logits", model, "--text", self.folder / "text.txt", "--out", self.folder / "logits")
        return load_file(self.folder / "logits")["logits"]

    def test_it_is_computed_tuned_and_exported(self):
        expected = self.logits(LLAMA)
        self.assertLess((self.logits(self.model) - expected).abs().max(), 1e-3 * expected.abs().max())
        data = str(support.EXAMPLES / "texts" / "tinystories-calibration.jsonl")
        output = support.export(self.folder, model=str(self.model), scheme="W4A16", tuning={"iters": 3}, formats=["auto_round"],
                                calibration={"data": data, "samples": 8, "seqlen": 32, "batch_size": 4})
        quantized = {name.removesuffix(".qweight") for name in load_file(output / "model.safetensors")
                     if name.endswith(".qweight")}
        self.assertEqual({re.sub(r"\d+", "N", name) for name in quantized},
                         {"blocks.N.attn.qkv", "blocks.N.attn.out", "blocks.N.ffn.in", "blocks.N.ffn.out"})
        listed = subprocess.run([os.environ["ROUNDHOUSE"], "architectures"], stdout=subprocess.PIPE, text=True).stdout
        self.assertIn("made_up", listed)


if __name__ == "__main__":
    unittest.main()
