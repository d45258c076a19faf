# SPDX-License-Identifier: Apache-2.0
"""vLLM on the CPU loads our exports, predicts what `roundhouse logits` predicts, and tells the same stories."""

import gc
import json
import os
import subprocess
import types
import unittest

import numpy as np

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1",
               "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
import torch  # noqa: E402, reads the environment
from vllm import LLM, SamplingParams  # noqa: E402
from vllm import _custom_ops as ops  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402

import agreement  # noqa: E402
import support  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

ASYMMETRIC = {"preset": "W4A16", "sym": False}


def unpack(words, bits=4):
    """[..., n] int32 -> [..., n * 32 / bits], the low bits first."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    return ((words.unsqueeze(-1) >> shifts) & (2**bits - 1)).flatten(-2)


def multiply_4bit(x, weight, out, scales, zeros, bias, pack_factor, isa):
    """What vLLM's cpu_gemm_wna16 computes. weight: int32 [n / 16, k * 2], for each row of k its 16 columns; scales
    [groups, n]; zeros: int32 [groups, n / 8], or None for 8."""
    n, groups = scales.shape[1], scales.shape[0]
    codes = unpack(weight.view(n // 16, -1, 2)).permute(1, 0, 2).reshape(-1, n)
    zero_points = unpack(zeros) if zeros is not None else torch.full((groups, n), 8)
    of_group = torch.arange(codes.shape[0]) // (codes.shape[0] // groups)
    weight = ((codes - zero_points[of_group]) * scales.float()[of_group]).to(x.dtype)
    out.copy_(torch.nn.functional.linear(x, weight.T, bias))


def multiply_int8(handler, x, out, x_scales, x_zero_points, adjustment, bias):
    """What vLLM's onednn_scaled_mm computes for symmetric inputs."""
    product = x.double() @ handler.weight * x_scales * handler.scales
    return out.copy_(product if bias is None else product + bias)


# Without AVX-512, vLLM reads and rearranges 4-bit weights but has no kernel to multiply by what it made of them; without
# VNNI, oneDNN adds products of int8 in 16 bits, which overflow.
current_platform.import_kernels()
OWN_4BIT, OWN_INT8 = hasattr(torch.ops._C, "cpu_gemm_wna16"), torch.cpu._is_vnni_supported()
if not OWN_4BIT:
    library = torch.library.Library("_C", "FRAGMENT")
    library.define("cpu_gemm_wna16(Tensor input, Tensor q_weight, Tensor! output, Tensor scales, Tensor? zeros, "
                   "Tensor? bias, int pack_factor, str isa_hint) -> ()")
    library.impl("cpu_gemm_wna16", multiply_4bit, "CPU")
if not OWN_INT8:
    ops.create_onednn_scaled_mm = lambda weight, scales, *_: types.SimpleNamespace(
        n=weight.shape[1], weight=weight.double(), scales=scales.flatten())
    ops.onednn_scaled_mm = multiply_int8


def stories_with_a_head(folder):
    """wide_stories(), whose embedding is its head, with the two apart."""
    model = agreement.wide_stories(folder)
    tensors = load_file(model / "model.safetensors")
    save_file(tensors | {"model.embed_tokens.weight": tensors["lm_head.weight"].copy()}, model / "model.safetensors",
              {"format": "pt"})
    config = support.read_json(model / "config.json")
    support.write_json(model / "config.json", config | {"tie_word_embeddings": False})
    return model


class Vllm(agreement.Case):
    # vLLM computes in bfloat16.
    divergence, relative_error, margin = 1e-3, 0.03, 0.1

    def generate(self, folder, ids):
        """Log probabilities [n - 1, vocabulary] of what follows each of the ids, and the story's ids."""
        engine = LLM(model=str(folder), enforce_eager=True, max_model_len=256, max_num_seqs=1, dtype="bfloat16",
                     max_logprobs=-1, disable_log_stats=True)
        how = SamplingParams(temperature=0, max_tokens=agreement.GENERATED, ignore_eos=True, prompt_logprobs=-1)
        (answer,) = engine.generate({"prompt_token_ids": ids}, how, use_tqdm=False)
        del engine
        gc.collect()
        vocabulary = len(answer.prompt_logprobs[1])
        predictions = np.array([[position[token].logprob for token in range(vocabulary)]
                                for position in answer.prompt_logprobs[1:]])
        return predictions, list(answer.outputs[0].token_ids)

    def assert_tells_the_same_story(self, form, scheme, own_kernel=True, what="", model=agreement.wide_stories, **recipe):
        kernel = "vLLM" if own_kernel else "vLLM with the test's product"
        out = self.export(model(self.folder()), form, scheme, **recipe)
        prompt, logits = agreement.our_logits(out)
        theirs, told = self.generate(out, prompt)
        self.assert_agrees(f"{form} {scheme}{what}, {kernel}", prompt, agreement.log_softmax(logits[:-1]), theirs)
        self.assert_same_story(out, prompt, told)

    def test_4_bits(self):
        for form, scheme in [("auto_round", "W4A16"), ("auto_gptq", "W4A16"), ("auto_awq", "W4A16"),
                             ("auto_awq", ASYMMETRIC), ("llm_compressor", "W4A16"), ("llm_compressor", ASYMMETRIC)]:
            with self.subTest(form=form, scheme=scheme):
                self.assert_tells_the_same_story(form, scheme, OWN_4BIT)

    def test_mixed(self):
        """What vLLM fuses has another group size than the rest, or is left alone; it asks by the fused layer's name."""
        fused = r"re:.*\.self_attn\.[qkv]_proj"
        others = [{"match": fused, "group_size": 32}, {"match": r"re:.*layers\.1\.mlp\.down_proj", "group_size": 64}]
        kept = [{"match": r"re:.*layers\.0\.self_attn\.[qkv]_proj", "scheme": "none"},
                {"match": r"re:.*layers\.1\.mlp\.(gate|up)_proj", "scheme": "none"}]
        for form, what, layers in [(form, what, layers) for form in ("auto_round", "auto_gptq", "llm_compressor")
                                   for what, layers in ((", mixed", others), (", some kept", kept))] + [
                                       ("auto_awq", ", some kept", kept)]:
            with self.subTest(form=form, what=what):
                self.assert_tells_the_same_story(form, "W4A16", OWN_4BIT, what, layers=layers)

    def test_quantized_head(self):
        for form in ("auto_round", "auto_gptq", "llm_compressor"):
            with self.subTest(form):
                self.assert_tells_the_same_story(form, "W4A16", OWN_4BIT, ", its head too", stories_with_a_head,
                                                 layers=[{"match": "lm_head", "scheme": "W4A16"}])

    def test_int8(self):
        # Inputs are rounded to 8 bits after bfloat16's: an element near a tie goes either way.
        self.divergence, self.relative_error, self.margin = 4e-3, 0.06, 0.3
        self.assert_tells_the_same_story("llm_compressor", "INT8", OWN_INT8)

    @unittest.skipUnless(torch.cpu._is_amx_tile_supported(), "vLLM multiplies blocks of fp8 on processors with AMX only")
    def test_fp8_block(self):
        for form in ["llm_compressor", "fp8"]:
            with self.subTest(form):
                self.assert_tells_the_same_story(form, "FP8_BLOCK")

    def broken(self, form, scheme, change):
        """An export whose quantization_config `change` has changed, and what `roundhouse verify` finds for vLLM."""
        out = self.export(agreement.wide_stories(self.folder()), form, scheme)
        config = json.loads((out / "config.json").read_text())
        change(config["quantization_config"])
        (out / "config.json").write_text(json.dumps(config))
        said = subprocess.run([os.environ["ROUNDHOUSE"], "verify", "--json", out], capture_output=True, text=True)
        findings = json.loads(said.stdout)["findings"]
        self.assertTrue(any(f["engine"] in ("vllm", "") and f["severity"] == "error" for f in findings), findings)
        return out

    def test_what_verify_finds_is_refused(self):
        """Of a list that names a packed weight, of one member of a fused layer in it, of another number of bits."""
        for form, change in [
                ("auto_awq", lambda q: q["modules_to_not_convert"].append("down_proj")),
                ("auto_awq", lambda q: q["modules_to_not_convert"].append("model.layers.0.self_attn.k_proj")),
                ("auto_gptq", lambda q: q.update(bits=8)),
                ("llm_compressor", lambda q: q["ignore"].append("model.layers.0.mlp.up_proj"))]:
            with self.subTest(form):
                out = self.broken(form, "W4A16", change)
                with self.assertRaises(Exception):
                    self.generate(out, [1, 2, 3])


if __name__ == "__main__":
    unittest.main(verbosity=2)
