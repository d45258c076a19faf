# SPDX-License-Identifier: Apache-2.0
"""Families whose experts are one tensor of all, or whose weights are stored transposed: each format stores what the engines
that load it look for, or says before the work that none does."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoRoundConfig

import support

LOGIT_TOLERANCE = 1e-2
TOKENIZER = support.DATA / "models" / "tiny-llama"
SIZES = dict(vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=None,
             num_local_experts=4, num_experts_per_tok=2)
EXPERTS_LEFT = [{"match": r"re:.*\.experts\..*", "scheme": "none"}]


def make_model(folder, model_type, **sizes):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SIZES | sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(noise * parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 1 + 0.1 * noise)
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder)


def stacks(tensors):
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items() if tensor.dim() == 3}


class Stacks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        make_model(cls.folder / "granitemoe", "granitemoe")
        make_model(cls.folder / "gpt_oss", "gpt_oss", head_dim=16, sliding_window=7)
        make_model(cls.folder / "llama4", "llama4_text", head_dim=16, intermediate_size_mlp=96, interleave_moe_layer_step=2)
        make_model(cls.folder / "gpt2", "gpt2")

    def recipe(self, family, form, layers=()):
        return dict(version=1, model=str(self.folder / family), output=str(self.folder / "unused"), device="cpu",
                    scheme="W4A16", tuning={"iters": 0}, layers=list(layers), formats=[form])

    def export(self, family, form, layers=()):
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        recipe = self.recipe(family, form, layers)
        del recipe["version"], recipe["output"], recipe["device"]
        return support.export(folder, **recipe)

    def plan(self, family, form, layers=()):
        recipe = self.folder / "plan.yaml"
        support.write_json(recipe, self.recipe(family, form, layers))
        return subprocess.run([os.environ["ROUNDHOUSE"], "plan", str(recipe)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)

    def assert_loads(self, output, **options):
        text = self.folder / "text.txt"
        text.write_text("Once upon a time there was a little girl named Lily.")
        support.roundhouse("logits", output, "--text", text, "--out", self.folder / "logits")
        ours = load_file(self.folder / "logits")
        theirs, loading = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32, output_loading_info=True,
                                                               **options)
        self.assertFalse(loading["missing_keys"])
        self.assertFalse(loading["unexpected_keys"])
        with torch.inference_mode():
            difference = (theirs(ours["ids"].long()[None]).logits[0] - ours["logits"]).abs().max().item()
        self.assertLess(difference, LOGIT_TOLERANCE)

    def test_1_what_stays_as_it_is_has_the_source_s_tensors(self):
        for family in ("granitemoe", "gpt_oss", "llama4"):
            source = load_file(self.folder / family / "model.safetensors")
            for form, layers in (("fake", ()), ("llm_compressor", EXPERTS_LEFT)):
                if (family, form) == ("llama4", "llm_compressor"):
                    continue  # transformers looks for its experts one by one wherever a checkpoint is quantized
                with self.subTest(family=family, form=form):
                    output = self.export(family, form, layers)
                    tensors = load_file(output / "model.safetensors")
                    self.assertEqual(stacks(tensors), stacks(source))
                    self.assertFalse([name for name in tensors if ".experts.0." in name])
                    if form == "llm_compressor":
                        for name in stacks(source):
                            self.assertTrue(torch.equal(tensors[name], source[name]), name)
                    self.assert_loads(output)

    def test_1_quantized_experts_of_llama4_are_read_one_by_one(self):
        self.assert_loads(self.export("llama4", "llm_compressor"))

    def test_1_transposed_weights_stay_so(self):
        source = load_file(self.folder / "gpt2" / "model.safetensors")
        output = self.export("gpt2", "fake")
        tensors = load_file(output / "model.safetensors")
        self.assertEqual({name: tensor.shape for name, tensor in tensors.items()},
                         {name: tensor.shape for name, tensor in source.items()})
        self.assert_loads(output)
        result = self.plan("gpt2", "llm_compressor")
        self.assertNotEqual(result.returncode, 0, result.stdout)
        self.assertIn("transposed (transformers' Conv1D)", result.stdout)

    def test_1_a_packed_source_is_written_as_transformers_has_it(self):
        source, packed = self.folder / "gpt_oss", self.folder / "packed"
        shutil.copytree(source, packed)
        tensors = load_file(source / "model.safetensors")
        for name in stacks(tensors):  # [experts, cols, rows]
            experts, cols, rows = tensors.pop(name).shape
            tensors[name + "_blocks"] = torch.randint(256, (experts, rows, cols // 32, 16), dtype=torch.uint8)
            tensors[name + "_scales"] = torch.randint(122, 126, (experts, rows, cols // 32), dtype=torch.uint8)
        save_file(tensors, packed / "model.safetensors", {"format": "pt"})
        config = support.read_json(packed / "config.json")
        left = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
        config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": left}
        support.write_json(packed / "config.json", config)
        output = self.export("packed", "fake", EXPERTS_LEFT)
        self.assertEqual({name: shape for name, (shape, _) in stacks(load_file(output / "model.safetensors")).items()},
                         {name: shape for name, (shape, _) in stacks(load_file(source / "model.safetensors")).items()})
        self.assert_loads(output)
        support.roundhouse("convert", packed, "--format", "fake", "--output", self.folder / "converted")
        kept, converted = load_file(output / "model.safetensors"), load_file(self.folder / "converted" / "model.safetensors")
        self.assertEqual(kept.keys(), converted.keys())
        for name, tensor in kept.items():
            if ".self_attn." in name and name.endswith("proj.weight"):
                continue  # rounded in the other export
            self.assertTrue(torch.equal(tensor.float(), converted[name].float()), name)

    # Last: auto-round changes transformers' classes for good.
    def test_2_auto_round_takes_experts_apart(self):
        for layers in ((), EXPERTS_LEFT):
            output = self.export("granitemoe", "auto_round", layers)
            self.assertFalse(stacks(load_file(output / "model.safetensors")))
            self.assert_loads(output, quantization_config=AutoRoundConfig())
        left = [{"match": r"re:.*\.c_proj", "scheme": "none"}]  # square, and as stored
        for layers in ((), left):
            self.assert_loads(self.export("gpt2", "auto_round", layers), quantization_config=AutoRoundConfig())

    def test_rows_that_take_turns_are_refused_and_stay_together(self):
        for form in ("auto_round", "auto_gptq", "llm_compressor"):
            result = self.plan("gpt_oss", form)
            self.assertNotEqual(result.returncode, 0, result.stdout)
            self.assertIn("leave the experts unquantized", result.stdout)
            self.assertIn("scheme: none", result.stdout)
        result = self.plan("gpt_oss", "auto_round", EXPERTS_LEFT)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("transformers with auto-round does not load these experts", result.stdout)
        output = self.export("gpt_oss", "auto_round", EXPERTS_LEFT)
        source = load_file(self.folder / "gpt_oss" / "model.safetensors")
        tensors = load_file(output / "model.safetensors")
        for name in stacks(source):
            self.assertTrue(torch.equal(tensors[name], source[name]), name)

    def test_quantized_experts_that_transformers_does_not_read_are_told(self):
        result = self.plan("granitemoe", "llm_compressor")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("transformers knows the experts of this family as one tensor", result.stdout)
        self.assertNotIn("transformers knows", self.plan("granitemoe", "llm_compressor", EXPERTS_LEFT).stdout)

    def test_plain_experts_that_transformers_looks_for_one_by_one_are_told(self):
        told = "transformers looks for these experts one by one beside quantized layers"
        self.assertIn(told, self.plan("llama4", "llm_compressor", EXPERTS_LEFT).stdout)
        self.assertNotIn(told, self.plan("llama4", "llm_compressor").stdout)
        output = self.export("llama4", "llm_compressor", EXPERTS_LEFT)
        _, loading = AutoModelForCausalLM.from_pretrained(output, output_loading_info=True)
        self.assertTrue([name for name in loading["missing_keys"] if ".experts.0." in name], "the warning is of no use now")

    def test_an_export_with_stacks_is_converted(self):
        output = self.export("granitemoe", "llm_compressor", EXPERTS_LEFT)
        support.roundhouse("verify", output, "--deep")
        for form in ("auto_round", "fake"):
            converted = self.folder / f"converted_{form}"
            support.roundhouse("convert", output, "--format", form, "--output", converted)
            self.assertEqual(bool(stacks(load_file(converted / "model.safetensors"))), form == "fake")
            config = json.loads((converted / "config.json").read_text())
            self.assertEqual(config["model_type"], "granitemoe")


if __name__ == "__main__":
    unittest.main()
