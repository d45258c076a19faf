# SPDX-License-Identifier: Apache-2.0
"""GGUF files of dense families: exported and read back by us, and loaded by transformers where it knows the family."""

import pathlib
import tempfile
import unittest

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import tiny_models

# Transformers has from GGUF all that these compute with.
SAME_LOGITS = ["phi3", "stablelm", "starcoder2_unbiased", "nemotron", "bloom"]
# It does not read the scale of attention, and Gemma 3's rotary positions.
SAME_TENSORS = ["gemma2", "gemma3_text"]
# The run reads its export back.
EXPORTED = ["arcee", "cohere", "cohere2", "ernie4_5", "exaone4_window", "gemma", "glm", "glm4", "gpt_neox", "granite", "hunyuan",
            "ministral", "olmo", "olmo2", "olmo3", "phi", "phi3_longrope", "seed_oss", "smollm3"]


class GgufFamilies(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def load(self, case):
        file = tiny_models.export(case, self.folder)
        (file.parent / "config.json").unlink()
        return AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()

    def test_logits_are_the_models(self):
        for case in SAME_LOGITS:
            with self.subTest(case), torch.inference_mode():
                reference = load_file(tiny_models.MODELS / case / "reference/model.safetensors")
                self.assertLess((self.load(case)(reference["ids"]).logits - reference["logits"]).abs().max(), 1e-4)

    def test_tensors_are_the_models(self):
        for case in SAME_TENSORS:
            with self.subTest(case):
                loaded = self.load(case).state_dict()
                for name, tensor in load_file(tiny_models.MODELS / case / "model.safetensors").items():
                    self.assertLess((loaded[name] - tensor).abs().max(), 1e-6, name)

    def test_exports_are_read_back(self):
        for case in EXPORTED:
            with self.subTest(case):
                tiny_models.export(case, self.folder)

    def test_a_head_that_llama_cpp_has_no_place_for_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "llama.cpp's gemma has the embedding as its head"):
            tiny_models.export("gemma_untied", self.folder)


if __name__ == "__main__":
    unittest.main(verbosity=2)
