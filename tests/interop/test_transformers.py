# SPDX-License-Identifier: Apache-2.0
"""transformers loads tuned exports, through auto-round's CPU kernels where they are packed, and computes our logits."""

import pathlib
import tempfile
import unittest

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoRoundConfig

import support

# Both sides compute in float32. The reference's own export through these kernels is within 1e-5 of a plain
# dequantization; a zero point off by one at 4 bits moves these logits by 8.
LOGIT_TOLERANCE = 1e-2
TEXT = ("Once upon a time there was a little girl named Lily. She loved to play with her ball in the big green park. "
        "One day, the ball rolled into the lake, and a kind old frog brought it back to her.")


class TunedExports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.output = support.export(
            cls.folder, model=str(support.EXAMPLES / "tinystories-656k"), scheme="W4A16", tuning={"iters": 4},
            calibration={"data": str(support.EXAMPLES / "texts" / "tinystories-calibration.jsonl"),
                         "samples": 16, "seqlen": 64, "batch_size": 8},
            formats=["auto_round", "auto_gptq", "auto_awq", "fake"])
        (cls.folder / "text.txt").write_text(TEXT)

    def our_logits(self, model_dir):
        """ids: [n], logits: [n, vocabulary]"""
        file = self.folder / "logits.safetensors"
        support.roundhouse("logits", model_dir, "--text", self.folder / "text.txt", "--out", file)
        tensors = load_file(file)
        return tensors["ids"].long(), tensors["logits"]

    def their_logits(self, model_dir, ids, **options):
        model, loading = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=torch.float32, output_loading_info=True, **options)
        self.assertFalse(loading["missing_keys"], f"{model_dir}: transformers made these up")
        unread = [key for key in loading["unexpected_keys"] if not key.endswith(".g_idx")]
        self.assertFalse(unread, f"{model_dir}: transformers does not read these")
        with torch.inference_mode():
            return type(model.model.layers[0].mlp.up_proj), model(ids[None]).logits[0]

    def assert_same_logits(self, ours, theirs):
        self.assertEqual(ours.shape, theirs.shape)
        self.assertLess((ours - theirs).abs().max().item(), LOGIT_TOLERANCE)

    def assert_packed_export_agrees(self, format_id):
        ids, ours = self.our_logits(self.output / format_id)
        self.assertGreater(len(ids), 20)
        linear, theirs = self.their_logits(self.output / format_id, ids, quantization_config=AutoRoundConfig())
        self.assertTrue(linear.__module__.startswith("auto_round"), f"{linear} is no kernel of auto-round")
        self.assert_same_logits(ours, theirs)

    def test_auto_round(self):
        self.assert_packed_export_agrees("auto_round")

    def test_auto_gptq(self):
        self.assert_packed_export_agrees("auto_gptq")

    def test_auto_awq(self):
        self.assert_packed_export_agrees("auto_awq")

    def test_fake_is_a_plain_checkpoint(self):
        self.assertNotIn("quantization_config", support.read_json(self.output / "fake" / "config.json"))
        ids, ours = self.our_logits(self.output / "fake")
        linear, theirs = self.their_logits(self.output / "fake", ids)
        self.assertIs(linear, torch.nn.Linear)
        self.assert_same_logits(ours, theirs)

    def test_all_formats_hold_the_same_quantized_model(self):
        _, fake = self.our_logits(self.output / "fake")
        for format_id in ("auto_round", "auto_gptq", "auto_awq"):
            self.assert_same_logits(self.our_logits(self.output / format_id)[1], fake)
        _, original = self.our_logits(support.EXAMPLES / "tinystories-656k")
        self.assertGreater((original - fake).abs().max().item(), 10 * LOGIT_TOLERANCE, "nothing was quantized")


if __name__ == "__main__":
    unittest.main(verbosity=2)
