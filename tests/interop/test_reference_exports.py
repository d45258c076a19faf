# SPDX-License-Identifier: Apache-2.0
"""Plain rounding gives the tensors of the reference's own export, bit for bit."""

import tempfile
import unittest

import torch
from safetensors.torch import load_file

import support

GROUP_SIZE = 128
REFERENCE = support.DATA / "exports" / "w4_rtn_regular"


class PlainRounding(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.output = support.export(
            folder.name, model=str(support.DATA / "models" / "tiny-llama"), scheme="W4A16", tuning={"iters": 0},
            formats=["auto_round", "auto_gptq"])
        cls.reference = load_file(REFERENCE / "model.safetensors")

    def assert_same_tensors(self, format_id, expected):
        difference = support.tensor_difference(load_file(self.output / format_id / "model.safetensors"), expected)
        self.assertEqual(difference, "", f"\n{format_id}:\n{difference}")

    def assert_config(self, format_id, expected):
        config = support.read_json(self.output / format_id / "config.json")["quantization_config"]
        self.assertEqual({key: config.get(key) for key in expected}, expected)

    def test_auto_round_tensors(self):
        self.assert_same_tensors("auto_round", self.reference)

    def test_auto_round_config(self):
        reference = support.read_json(REFERENCE / "config.json")["quantization_config"]
        read_by_clients = (
            "quant_method", "packing_format", "bits", "group_size", "sym", "data_type", "block_name_to_quantize")
        self.assert_config("auto_round", {key: reference[key] for key in read_by_clients})

    def test_auto_gptq_tensors(self):
        # For symmetric schemes the reference's auto_round stores zero points as GPTQ does, less one (packing_format
        # auto_round:auto_gptq), so that auto_gptq differs by the column's group index alone.
        expected = dict(self.reference)
        for name, qweight in self.reference.items():
            if name.endswith(".qweight"):
                columns = torch.arange(qweight.shape[0] * 8, dtype=torch.int32)  # 4-bit codes, 8 an int32
                expected[name.replace(".qweight", ".g_idx")] = columns // GROUP_SIZE
        self.assert_same_tensors("auto_gptq", expected)

    def test_auto_gptq_config(self):
        self.assert_config(
            "auto_gptq", {"quant_method": "gptq", "bits": 4, "group_size": GROUP_SIZE, "sym": True, "desc_act": False})


if __name__ == "__main__":
    unittest.main(verbosity=2)
