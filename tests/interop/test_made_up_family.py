# SPDX-License-Identifier: Apache-2.0
"""A family that nobody has described, made of known parts: the descriptor and the commands of CONTRIBUTING.md, as they stand
there, and no C++, make it one that is tuned and exported. It is a Llama with other keys, other names, and projections that
are one tensor."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import torch
from safetensors.torch import load_file, save_file

import support

LLAMA = support.DATA / "models" / "tiny-llama"
# CONTRIBUTING.md's section, whose descriptor and commands these are.
SECTION = re.search(r"^## A model family$.*?(?=^## )", (support.SOURCE / "CONTRIBUTING.md").read_text(), re.M | re.S)[0]
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
        (self.folder / "made_up.yaml").write_text(re.search(r"^```yaml\n(.*?)^```", SECTION, re.M | re.S)[1])
        self.model = self.folder / "made-up-model"
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

    def test_the_page_leads_to_a_quantized_model(self):
        text = self.folder / "text.txt"
        text.write_text("Once upon a time there was a little girl named Lily.")
        support.roundhouse("logits", LLAMA, "--text", text, "--out", self.folder / "expected")
        data = str(support.EXAMPLES / "texts" / "tinystories-calibration.jsonl")
        support.write_json(self.folder / "recipe.yaml", dict(
            version=1, model=str(self.model), output=str(self.folder / "out"), scheme="W4A16", tuning={"iters": 3}, formats=["auto_round"],
            calibration={"data": data, "samples": 8, "seqlen": 32, "batch_size": 4}, device="cpu"))
        commands = re.search(r"^```sh\n(.*?)^```", SECTION, re.M | re.S)[1]
        path = f"{pathlib.Path(os.environ['ROUNDHOUSE']).parent}:{os.environ['PATH']}"
        environment = {key: value for key, value in os.environ.items() if key != "XDG_CONFIG_HOME"}
        done = subprocess.run(["sh", "-e", "-c", commands], cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=environment | {"HOME": str(self.folder), "PATH": path})
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, r"(?m)^made_up\b")
        ours, expected = (load_file(self.folder / name)["logits"] for name in ("logits.safetensors", "expected"))
        self.assertLess((ours - expected).abs().max(), 1e-3 * expected.abs().max())
        (exported,) = (self.folder / "out").rglob("model.safetensors")
        quantized = {name.removesuffix(".qweight") for name in load_file(exported) if name.endswith(".qweight")}
        self.assertEqual({re.sub(r"\d+", "N", name) for name in quantized},
                         {"blocks.N.attn.qkv", "blocks.N.attn.out", "blocks.N.ffn.in", "blocks.N.ffn.out"})


if __name__ == "__main__":
    unittest.main()
