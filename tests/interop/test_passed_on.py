# SPDX-License-Identifier: Apache-2.0
"""A model whose blocks pass more on than the hidden state: inputs of each block's own, and keys and values that later blocks
have from earlier ones (Gemma 4 E2B)."""

import os
import pathlib
import signal
import subprocess
import tempfile
import unittest

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import support
import tiny_models

LOGIT_TOLERANCE = 1e-2
SHARING = ["model.layers.2.", "model.layers.3."]
KEYS = ["self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.k_norm.weight"]
TEXT = "Once upon a time there was a little girl named Lily. She liked to play outside.\n" * 40


class PassedOn(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.model = tiny_models.copy("gemma4_inputs", self.folder)
        self.text = self.folder / "text.txt"
        self.text.write_text(TEXT)

    def recipe(self, **keys):
        file = self.folder / "recipe.yaml"
        support.write_json(file, dict(
            version=1, model=str(self.model), output=str(self.folder / "out"), device="cpu",
            scheme=dict(data_type="int", bits=3, group_size=-1), formats=["fake"], tuning=dict(iters=20),
            calibration=dict(data=str(self.text), samples=8, seqlen=32)) | keys)
        return file

    def program(self, command, *options, **environment):
        return subprocess.run([os.environ["ROUNDHOUSE"], command, *map(str, options)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=os.environ | environment)

    def change(self, edit):
        """Of the stored tensors."""
        file = self.model / "model.safetensors"
        tensors = load_file(file)
        edit(tensors)
        save_file(tensors, file, {"format": "pt"})

    def store_unused_keys(self):
        def edit(tensors):
            for block, prefix in enumerate(SHARING):
                for name in KEYS:
                    tensors[prefix + name] = tensors[f"model.layers.{block}." + name].clone()

        self.change(edit)

    def contents(self):
        """All that a run writes, but for the report, which tells times, and its digest."""
        out = self.folder / "out"
        return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*")
                if file.is_file() and not file.name.startswith("report") and file != out / "roundhouse/SHA256SUMS"}

    def test_a_tuned_run_that_was_broken_off_ends_with_the_same_bytes(self):
        recipe = self.recipe()
        whole = self.program("run", recipe)
        self.assertEqual(whole.returncode, 0, whole.stdout)
        expected = self.contents()
        for block in support.read_json(self.folder / "out/roundhouse/report.json")["blocks"]:
            self.assertLess(block["best_loss"], block["first_loss"])
        resumed = set()
        for at in range(10, 100, 8):
            killed = self.program("run", recipe, "--overwrite", ROUNDHOUSE_JOURNAL_SECONDS="0",
                                  LD_PRELOAD=os.environ["KILL_AT_LIBRARY"], KILL_UNDER=str(self.folder / "out"),
                                  KILL_AT=str(at))
            if "resuming" in killed.stdout:
                resumed.add(killed.stdout[killed.stdout.index("resuming"):].splitlines()[0])
            if killed.returncode == 0:
                break
            self.assertEqual(killed.returncode, -signal.SIGKILL, killed.stdout)
        self.assertEqual(killed.returncode, 0, killed.stdout)
        self.assertGreater(len(resumed), 1, "behind several blocks")
        self.assertEqual(self.contents().keys(), expected.keys())
        self.assertEqual([name for name, content in self.contents().items() if content != expected[name]], [])

    def test_keys_that_nothing_reads_are_left_out(self):
        plain = self.program("plan", self.recipe(formats=["llm_compressor"]))
        self.store_unused_keys()
        file = self.recipe(formats=["llm_compressor"])
        plan = self.program("plan", file)
        self.assertEqual(plan.returncode, 0, plan.stdout)
        self.assertIn("stores model.layers.2.self_attn.k_norm.weight and 5 others, which nothing reads", plan.stdout)
        self.assertNotIn("which nothing reads", plain.stdout)
        support.roundhouse("run", file)
        out = self.folder / "out"
        stored = load_file(out / "model.safetensors")
        for prefix in SHARING:
            self.assertIn(prefix + "self_attn.q_proj.weight_packed", stored)
            self.assertFalse([name for name in stored if name.startswith(prefix) and
                              any(part in name for part in ("k_proj", "v_proj", "k_norm"))])
        support.roundhouse("verify", out, "--deep")
        support.roundhouse("logits", out, "--text", self.text, "--out", self.folder / "logits")
        ours = load_file(self.folder / "logits")
        theirs, loading = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
        self.assertFalse(loading["missing_keys"])
        self.assertFalse(loading["unexpected_keys"])
        with torch.inference_mode():
            difference = (theirs(ours["ids"].long()[None]).logits[0] - ours["logits"]).abs().max().item()
        self.assertLess(difference, LOGIT_TOLERANCE)

    def test_wrong_sizes_of_the_inputs_are_found_before_the_work(self):
        for name, told in [("model.embed_tokens_per_layer.weight", "is [97, 39], but config.json says [97, 40]"),
                           ("model.per_layer_model_projection.weight", "is [40, 47], but config.json says [40, 48]"),
                           ("model.per_layer_projection_norm.weight", "is [9], but config.json says [10]")]:
            right = load_file(self.model / "model.safetensors")[name]
            self.change(lambda tensors: tensors.update({name: right[..., :-1].contiguous()}))
            result = self.program("plan", self.recipe())
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertIn(f"{name} {told}", result.stdout)
            self.change(lambda tensors: tensors.update({name: right}))

    def test_gguf_refuses_inputs_for_other_tokens_than_the_vocabularys(self):
        config = support.read_json(self.model / "config.json")
        support.write_json(self.model / "config.json", config | dict(vocab_size_per_layer_input=100))
        table = "model.embed_tokens_per_layer.weight"
        self.change(lambda tensors: tensors.update({table: torch.cat([tensors[table], tensors[table][:3]])}))
        with self.assertRaisesRegex(AssertionError, "gemma4 has inputs of .* alone, 97, and .*vocab_size_per_layer_input is 100"):
            tiny_models.export_model(self.model, self.folder)


if __name__ == "__main__":
    unittest.main(verbosity=2)
