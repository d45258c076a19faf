# SPDX-License-Identifier: Apache-2.0
"""GGUF files of dense families: exported and read back by us, and loaded by transformers where it knows the family."""

import pathlib
import tempfile
import unittest

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import support
import tiny_models

# Transformers has from GGUF all that these compute with.
SAME_LOGITS = ["phi3", "stablelm", "nemotron", "bloom"]
# It does not read the scale of attention, and Gemma 3's rotary positions.
SAME_TENSORS = ["gemma2", "gemma3_text"]
# The run reads its export back.
EXPORTED = ["apertus", "bamba", "deepseek_v3", "ernie4_5_moe_interval", "falcon_7b", "gemma4_experts", "gemma4_inputs", "gpt2", "gpt2_base", "llama4_text", "falcon_h1_plain", "gpt_oss_limit", "granitemoehybrid",
            "kimi_k25", "lfm2_moe", "mistral4_unbiased", "nemotron_h_experts", "qwen3_vl_moe", "youtu", "arcee", "cohere", "cohere2", "ernie4_5", "exaone4_window", "gemma", "glm", "glm4", "gpt_neox", "granite", "hunyuan",
            "ministral", "olmo", "olmo2", "olmo3", "phi", "phi3_longrope", "seed_oss", "smollm3"]

# Their config.json follows from the metadata; gemma2 and gemma3_text have the scale of attention that llama.cpp gives them.
REBUILT = ["mistral_window", "qwen2", "qwen3", "mixtral", "qwen3_moe", "gemma", "gemma2", "gemma3_text"]


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

    def test_rounded_exports_are_read_back(self):
        for case in ["qwen3_5_even", "qwen3_5_moe_even", "qwen3_next_even"]:
            with self.subTest(case):
                tiny_models.export(case, self.folder, "Q8_0")

    def test_a_file_alone_is_the_model(self):
        for case in REBUILT:
            with self.subTest(case), torch.inference_mode():
                reference = load_file(tiny_models.MODELS / case / "reference/model.safetensors")
                file = tiny_models.export(case, self.folder)
                alone = file.rename(self.folder / f"{case}.gguf")
                again = self.folder / f"{case}-again"
                again.mkdir()
                out = support.export(again, model=str(alone), scheme={"bits": 16}, tuning={"iters": 0},
                                     formats=["fake"])
                model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
                self.assertLess((model(reference["ids"]).logits - reference["logits"]).abs().max(), 1e-4)

    def test_a_family_that_is_not_rebuilt_becomes_no_other_checkpoint(self):
        alone = tiny_models.export("starcoder2", self.folder).rename(self.folder / "alone.gguf")
        (self.folder / "again").mkdir()
        refusal = ("the metadata of llama.cpp's starcoder2 is not turned into a config.json: take the model's own folder, or put "
                   "its config.json and tokenizer files beside the weights")
        with self.assertRaisesRegex(AssertionError, refusal):
            support.export(self.folder / "again", model=str(alone), scheme="W8A16", tuning={"iters": 0}, formats=["fake"])
        with self.assertRaisesRegex(AssertionError, refusal):
            support.roundhouse("convert", alone, "--format", "fake", "--output", self.folder / "converted")

    def test_a_head_that_llama_cpp_has_no_place_for_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "llama.cpp's gemma has the embedding as its head"):
            tiny_models.export("gemma_untied", self.folder)

    def test_what_llama_cpp_computes_otherwise_is_refused(self):
        for case, reason in [("gpt_oss", "gpt-oss cuts off its experts' gates at 7, and swiglu_limit is another"),
                             ("apertus_tied", "apertus has no biases"),
                             ("falcon_h1", "falcon-h1 has the multipliers multiplied into the weights"),
                             ("gemma3", "gemma3 scales the scores of attention by the root of 16 .* query_pre_attn_scalar is 24"),
                             ("gemma4_inputs_untied", "gemma4 takes the keys and values of block 3 from block 2"),
                             ("gpt2_untied", "gpt2 scales the scores of attention"),
                             ("llama4_text_chunks", "llama4 attends in chunks of 8192"),
                             ("starcoder2_unbiased", "starcoder2 wants biases"),
                             ("phimoe", "phimoe chooses a token's experts by a softmax"),
                             ("deepseek_v2", "deepseek2 has no biases, and attention_bias is true"),
                             ("dots1", "dots1 has keys and values for each head"),
                             ("qwen3_next", "qwen3next has heads of one size in the gated delta rule"),
                             ("smollm3_4", "smollm3 has rotary positions in all blocks but every 4th"),
                             ("qwen3_yarn_4", "qwen3 truncates YaRN's range"),
                             ("youtu_yarn", "deepseek2 has no biases"),
                             ("nemotron_h", "nemotron_h_moe has experts wherever there is an MLP"),
                             ("granitemoehybrid_dense", "knows no limits of Mamba 2's time steps|mamba_proj_bias is true")]:
            with self.subTest(case), self.assertRaisesRegex(AssertionError, f"llama.cpp's .*({reason})"):
                tiny_models.export(case, self.folder)


if __name__ == "__main__":
    unittest.main(verbosity=2)
