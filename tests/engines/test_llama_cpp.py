# SPDX-License-Identifier: Apache-2.0
"""llama.cpp loads our GGUF files, splits text as we do, computes what `roundhouse logits` computes, and tells the same
stories."""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import unittest

import numpy as np
from llama_cpp import Llama
from safetensors import safe_open

import agreement
import support
import tiny_models

PRESETS = ["Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",
           "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


# One of each family that it knows, as its code has it: others have biases or heads that it does not load.
FAMILIES = ["apertus", "arcee", "bamba", "bloom", "cohere", "cohere2", "deepseek_v2_lite", "deepseek_v3", "deepseek_v3_yarn", "dots1_own_keys",
            "ernie4_5", "ernie4_5_moe", "ernie4_5_moe_interval", "exaone4", "falcon_11b", "falcon_7b", "falcon_h1_plain", "gemma", "gemma2",
            "gemma3_text", "gemma4_experts", "gemma4_inputs", "gemma4_text", "glm4", "glm4_moe", "glm4_moe_lite", "glm_tied", "gpt2", "gpt2_base", "gpt_neox",
            "gpt_oss_limit", "granite", "granite_tied", "granitemoe", "granitemoehybrid", "hunyuan", "hunyuan_v1_moe",
            "kimi_k25", "lfm2", "lfm2_moe", "lfm2_old", "llama", "llama_llama3", "llama_yarn", "llama4_text", "llava", "minimax_m2", "ministral3", "mistral4_full_rank",
            "mistral4_unbiased", "mixtral", "nemotron", "nemotron_h_dense", "nemotron_h_experts", "olmo", "olmo2", "olmo3",
            "olmoe_own_keys", "phi", "phi3", "phi3_longrope_long", "qwen2_5_vl", "qwen2_moe", "qwen3_5_even",
            "qwen3_5_moe_even", "qwen3_moe", "qwen3_next_even", "qwen3_vl", "qwen3_vl_moe", "seed_oss", "smollm3",
            "stablelm", "youtu"]

# Rounded: those whose rows or columns it has in another order, or which are two of its tensors; and experts in 2 bits.
ROUNDED = {"deepseek_v3": "Q8_0", "granitemoehybrid": "Q8_0", "qwen3_5_even": "Q8_0", "qwen3_5_moe_even": "Q8_0",
           "qwen3_moe_wide": "Q2_K_MIXED", "qwen3_next_even": "Q8_0"}


class LlamaCpp(agreement.Case):
    # Activations are rounded to 8 bits, for k-quants with one scale for 256 of them.
    divergence, relative_error, margin = 5e-3, 0.05, 0.3

    def our_tokens(self, model):
        file = self.folder() / "text.txt"
        file.write_text(agreement.TEXT)
        command = [os.environ["ROUNDHOUSE"], "tokenize", "--model", model, "--text", file]
        return [int(word) for word in subprocess.check_output(command, text=True).replace(",", " ").split()]

    def assert_loads(self, model, preset, form="gguf", **recipe):
        """The export's folder, the engine with it, and the ids of the text."""
        out = self.export(model, form, f"GGUF:{preset}", **recipe)
        # One thread: several wait for each other busily, which on a busy machine takes minutes.
        engine = Llama(str(min(out.glob("*.gguf"))), n_ctx=256, logits_all=True, n_gpu_layers=0, n_threads=1,
                       n_threads_batch=1, verbose=False)
        self.addCleanup(engine.close)
        ids, logits = agreement.our_logits(out)
        self.assertEqual(engine.tokenize(agreement.TEXT.encode(), special=True), ids)
        self.assertEqual(self.our_tokens(model), ids)
        engine.eval(ids)
        theirs = agreement.log_softmax(np.array(engine.scores[:len(ids)], dtype=np.float64))
        self.assert_agrees(f"gguf {preset} of {model.name}, llama.cpp", ids, agreement.log_softmax(logits), theirs)
        return out, engine, ids

    def assert_tells_the_same_story(self, model, preset):
        out, engine, prompt = self.assert_loads(model, preset)
        engine.reset()
        told = [token for token, _ in zip(engine.generate(prompt, temp=0.0), range(agreement.GENERATED))]
        self.assert_same_story(out, prompt, told)

    def test_stories(self):
        model = agreement.wide_stories(self.folder())
        for preset in PRESETS:
            with self.subTest(preset):
                self.assert_tells_the_same_story(model, preset)

    def test_stories_where_rows_are_no_whole_blocks_of_256(self):
        for preset in ["Q2_K", "Q4_K_M"]:
            with self.subTest(preset):
                self.assert_tells_the_same_story(agreement.STORIES, preset)

    def test_random_model_with_byte_level_tokenizer(self):
        for preset in ["Q4_K_M", "Q8_0"]:
            with self.subTest(preset):
                self.assert_loads(agreement.TINY, preset)

    def test_sentencepiece_model_file(self):
        model = self.folder() / "tiny-llama-spm"
        shutil.copytree(agreement.TINY, model)
        (model / "tokenizer.json").unlink()
        shutil.copy(support.DATA / "models" / "tiny-llama-spm" / "tokenizer.model", model)
        out = self.export(model, "gguf", "GGUF:Q4_K_M")
        engine = Llama(str(min(out.glob("*.gguf"))), vocab_only=True, verbose=False)
        self.addCleanup(engine.close)
        text = agreement.TEXT.encode()
        self.assertEqual(engine.detokenize(engine.tokenize(text, add_bos=False)).lstrip(), text)

    def test_split_files(self):
        out, _, _ = self.assert_loads(agreement.TINY, "Q4_K_M", {"id": "gguf", "split": True}, max_shard_size="400KB")
        self.assertGreater(len(list(out.glob("*-of-*.gguf"))), 2)

    def engine_logits(self, file, ids):
        engine = Llama(str(file), n_ctx=64, logits_all=True, n_gpu_layers=0, n_threads=1, n_threads_batch=1, verbose=False)
        self.addCleanup(engine.close)
        engine.eval(ids)
        return np.array(engine.scores[:len(ids)])

    def test_families(self):
        """Tiny random models, whose logits transformers computed; in float32, but for llama.cpp's cache in float16."""
        for case in FAMILIES:
            with self.subTest(case):
                with safe_open(tiny_models.MODELS / case / "reference/model.safetensors", "np") as reference:
                    ids, expected = reference.get_tensor("ids")[0].tolist(), reference.get_tensor("logits")[0]
                theirs = self.engine_logits(tiny_models.export(case, self.folder()), ids)
                # Of experts another one may be chosen at one position, by the rounding of the cache.
                config = (tiny_models.MODELS / case / "config.json").read_text()
                differences = np.sort(np.abs(theirs - expected).max(axis=1))
                self.assertLess(differences[-2 if "expert" in config else -1], 0.01 * np.abs(expected).max())

    def test_rounded_families(self):
        for case, file_type in ROUNDED.items():
            with self.subTest(case):
                file = tiny_models.export(case, self.folder(), file_type)
                with safe_open(tiny_models.MODELS / case / "reference/model.safetensors", "np") as reference:
                    ids = reference.get_tensor("ids")[0].tolist()
                _, ours = agreement.our_logits(file.parent, ids)
                differences = np.sort(np.abs(self.engine_logits(file, ids) - ours).max(axis=1))
                self.assertLess(np.median(differences), 0.1 * np.abs(ours).max())

    def test_what_verify_finds_is_refused(self):
        """Of a block too many, of a hyperparameter and of a tensor that are missing."""
        count = b"llama.block_count" + struct.pack("<I", 4)  # the key, and the type of its value: uint32
        for old, new in [(count + struct.pack("<I", 2), count + struct.pack("<I", 3)),
                         (b"llama.context_length", b"llama.context_lengtx"),
                         (b"blk.1.ffn_norm.weight", b"blk.1.ffn_nxrm.weight")]:
            with self.subTest(old):
                out = self.export(agreement.TINY, "gguf", "GGUF:Q4_K_M")
                file = min(out.glob("*.gguf"))
                self.assertIn(old, file.read_bytes())
                file.write_bytes(file.read_bytes().replace(old, new, 1))
                said = subprocess.run([os.environ["ROUNDHOUSE"], "verify", "--json", out], capture_output=True, text=True)
                findings = json.loads(said.stdout)["findings"]
                self.assertIn("error", [f["severity"] for f in findings])
                with self.assertRaises(ValueError):
                    Llama(str(file), verbose=False)


if __name__ == "__main__":
    unittest.main(verbosity=2)
