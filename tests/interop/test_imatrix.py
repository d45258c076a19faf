# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's package gguf reads the importance matrices that we save, with the sums that transformers computes."""

import json
import pathlib
import tempfile
import unittest

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import support

SAMPLES, SEQLEN = 4, 32


class SavedImatrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.model = support.EXAMPLES / "tinystories-656k"
        text = " ".join(["Once upon a time there was a little girl named Lily who loved to play in the park."] * 8)
        (cls.folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": f"{i}. {text}"}) for i in range(SAMPLES)))
        support.export(cls.folder, model=str(cls.model), scheme="W4A16", tuning={"iters": 0},
                       calibration={"data": "texts.jsonl", "samples": SAMPLES, "seqlen": SEQLEN},
                       imatrix={"save": "imatrix.gguf"}, formats=["fake"])
        cls.reader = gguf.GGUFReader(cls.folder / "imatrix.gguf")
        cls.tensors = {tensor.name: tensor for tensor in cls.reader.tensors}

    def test_metadata(self):
        value = lambda key: self.reader.get_field(key).contents()
        self.assertEqual(value("general.type"), gguf.GGUFType.IMATRIX)
        self.assertEqual(value(gguf.Keys.IMatrix.CHUNK_COUNT), SAMPLES)
        self.assertEqual(value(gguf.Keys.IMatrix.CHUNK_SIZE), SEQLEN)
        self.assertEqual(value(gguf.Keys.IMatrix.DATASETS), [str(self.folder / "texts.jsonl")])

    def test_sums(self):
        names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
                 "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
                 "ffn_down": "mlp.down_proj"}
        model = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(self.model)
        sums = {}
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                module.register_forward_pre_hook(
                    lambda _, args, name=name: sums.__setitem__(
                        name, sums.get(name, 0) + args[0].double().square().sum((0, 1))))
        with torch.inference_mode():
            for line in (self.folder / "texts.jsonl").read_text().splitlines():
                ids = tokenizer(json.loads(line)["text"]).input_ids[:SEQLEN]
                self.assertEqual(len(ids), SEQLEN)
                model(torch.tensor([ids]))
        self.assertEqual(len(self.tensors), 2 * len(sums))
        for block in range(2):
            for theirs, ours in names.items():
                tensor = self.tensors[f"blk.{block}.{theirs}.weight.in_sum2"]
                expected = sums[f"model.layers.{block}.{ours}"]
                self.assertEqual(list(tensor.shape), [len(expected), 1])
                # Where the processor has bfloat16 products, the calibration runs in bfloat16: 2^-8 an input, and sums of
                # squares of a few large ones differ by some of that.
                difference = (torch.tensor(tensor.data.copy()).flatten().double() - expected).abs()
                self.assertLess((difference / (expected.mean() + 0.2 * expected)).max().item(), 0.1, tensor.name)
                self.assertLess((difference.sum() / expected.sum()).item(), 0.02, tensor.name)
                self.assertEqual(self.tensors[f"blk.{block}.{theirs}.weight.counts"].data.item(), SAMPLES * SEQLEN)


if __name__ == "__main__":
    unittest.main()
