# SPDX-License-Identifier: Apache-2.0
"""auto-round loads our exports of float schemes and decodes their weights as we do; plain rounding gives its tensors."""

import pathlib
import tempfile
import unittest

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoRoundConfig

import support

MODEL = support.DATA / "models" / "tiny-llama"
EXPORTS = support.DATA / "exports"
SCHEMES = ("MXFP4", "MXFP8", "MXINT4", "NVFP4", "FP8_STATIC")
# Engines round the input as well, with kernels of their own, so that logits are far from ours: weights are compared.
# auto-round holds bfloat16 scales of fp8, rounded from our float32 ones (2^-9): its weights are at most one step of
# bfloat16 away.
TOLERANCE = {"FP8_STATIC": 2**-7}


def export(folder, scheme, format_id):
    (folder / scheme).mkdir()
    return support.export(
        folder / scheme, model=str(MODEL), scheme=scheme, tuning={"iters": 0},
        calibration={"data": str(support.EXAMPLES / "texts" / "tinystories-calibration.jsonl"),
                     "samples": 8, "seqlen": 64, "batch_size": 4},
        formats=[format_id, "fake"])


class AutoRoundFloats(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)

    def assert_decodes(self, scheme):
        output = export(self.folder, scheme, "auto_round")
        model, loading = AutoModelForCausalLM.from_pretrained(
            output / "auto_round", dtype=torch.bfloat16, output_loading_info=True, quantization_config=AutoRoundConfig())
        self.assertFalse(loading["missing_keys"])
        self.assertFalse(loading["unexpected_keys"])
        ours = load_file(output / "fake" / "model.safetensors")
        compared = 0
        for name, module in model.named_modules():
            if not hasattr(module, "dequant_weight_online"):
                continue
            theirs = module.dequant_weight_online().to(torch.bfloat16)
            torch.testing.assert_close(theirs, ours[name + ".weight"], rtol=TOLERANCE.get(scheme, 0), atol=0)
            compared += 1
        self.assertEqual(compared, 14)
        with torch.inference_mode():
            self.assertTrue(torch.isfinite(model(torch.arange(1, 20)[None]).logits).all())

    def test_fp8_blocks(self):
        output = export(self.folder, "FP8_BLOCK", "fp8")
        model, loading = AutoModelForCausalLM.from_pretrained(
            output / "fp8", dtype=torch.float32, output_loading_info=True)
        self.assertFalse(loading["missing_keys"])
        ours = load_file(output / "fake" / "model.safetensors")
        for name, weight in model.state_dict().items():
            self.assertTrue(torch.equal(weight.to(torch.bfloat16), ours[name]), name)


for scheme in SCHEMES:
    setattr(AutoRoundFloats, f"test_{scheme.lower()}", lambda self, scheme=scheme: self.assert_decodes(scheme))


class PlainRounding(unittest.TestCase):
    """Of the reference's exports two layers are kept. Its fp8 scales are ours, rounded to bfloat16."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)

    def assert_same_tensors(self, scheme, format_id, reference):
        output = export(self.folder, scheme, format_id)
        ours = load_file(output / format_id / "model.safetensors")
        expected = load_file(EXPORTS / reference / "model.safetensors")
        kept = {}
        for name in expected:
            # The range of an input depends on the last bits of a forward pass.
            if name.endswith("input_scale"):
                continue
            is_scale = name.endswith(("weight_scale", "weight_scale_inv")) and ours[name].dtype == torch.float32
            kept[name] = ours[name].to(torch.bfloat16) if is_scale else ours[name]
            if scheme == "MXINT4" and name.endswith("weight_packed"):  # the reference stores -0
                low, high = expected[name] & 0x0F, expected[name] & 0xF0
                expected[name] = low * (low != 0x08) + high * (high != 0x80)
        expected = {name: tensor for name, tensor in expected.items() if name in kept}
        difference = support.tensor_difference(kept, expected)
        self.assertEqual(difference, "", f"\n{scheme}:\n{difference}")

    def test_w8a16(self):
        self.assert_same_tensors("W8A16", "auto_round", "w8g128_sym_autoround_rtn")

    def test_fpw8a16(self):
        self.assert_same_tensors("FPW8A16", "auto_round", "fpw8a16_autoround")

    def test_fp8_static(self):
        self.assert_same_tensors("FP8_STATIC", "auto_round", "fp8_static_autoround")

    def test_fp8_block(self):
        self.assert_same_tensors("FP8_BLOCK", "fp8", "fp8_block_fp8")

    def test_mxint4(self):
        self.assert_same_tensors("MXINT4", "auto_round", "mxint4_plainrtn")


if __name__ == "__main__":
    unittest.main(verbosity=2)
