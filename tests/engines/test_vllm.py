"""vLLM on the CPU loads our exports, and predicts what `roundhouse logits` predicts."""

import gc
import pathlib
import tempfile
import unittest

import numpy as np
from vllm import LLM, SamplingParams

import agreement
import support

MODEL = support.DATA / "models" / "tiny-llama"  # random; heads of 64, one of the sizes that vLLM's CPU kernels have
VOCABULARY = 512

# vLLM computes in bfloat16, ours is float32: 2 blocks add up to about this share of the logits' spread.
DIVERGENCE = 1e-3
RELATIVE_ERROR = 0.03
MARGIN = 0.05


class Vllm(unittest.TestCase):
    def export(self, form, scheme):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return support.export(folder.name, model=str(MODEL), scheme=scheme, tuning={"iters": 0}, formats=[form])

    def predictions(self, folder, ids):
        """Log probabilities [n - 1, vocabulary] of the tokens after the first."""
        engine = LLM(model=str(folder), enforce_eager=True, max_model_len=128, max_num_seqs=1, dtype="bfloat16",
                     max_logprobs=VOCABULARY, disable_log_stats=True)
        (answer,) = engine.generate({"prompt_token_ids": ids}, use_tqdm=False,
                                    sampling_params=SamplingParams(temperature=0, max_tokens=1,
                                                                   prompt_logprobs=VOCABULARY))
        del engine
        gc.collect()
        return np.array([[position[token].logprob for token in range(VOCABULARY)]
                         for position in answer.prompt_logprobs[1:]])

    def assert_agrees(self, form, name, scheme):
        folder = self.export(form, scheme)
        ids, logits = agreement.our_logits(folder)
        ours, theirs = agreement.log_softmax(logits[:-1]), self.predictions(folder, ids)
        divergence, error = agreement.divergence(ours, theirs), agreement.relative_error(ours, theirs)
        print(f"{form} {name}, vLLM: divergence {divergence:.1e}, relative error {error:.4f}")
        self.assertLess(divergence, DIVERGENCE)
        self.assertLess(error, RELATIVE_ERROR)
        self.assertEqual(agreement.wrong_choices(ours, theirs.argmax(axis=-1), MARGIN), [])

    def test_auto_round(self):
        self.assert_agrees("auto_round", "W4A16", "W4A16")

    def test_auto_gptq(self):
        self.assert_agrees("auto_gptq", "W4A16", "W4A16")

    def test_auto_awq(self):
        self.assert_agrees("auto_awq", "W4A16", "W4A16")

    def test_auto_awq_asymmetric(self):
        self.assert_agrees("auto_awq", "W4A16 asym", {"preset": "W4A16", "sym": False})

    def test_llm_compressor(self):
        self.assert_agrees("llm_compressor", "W4A16", "W4A16")

    def test_llm_compressor_asymmetric(self):
        self.assert_agrees("llm_compressor", "W4A16 asym", {"preset": "W4A16", "sym": False})

    def test_llm_compressor_int8(self):
        self.assert_agrees("llm_compressor", "INT8", "INT8")

    def test_llm_compressor_fp8_block(self):
        self.assert_agrees("llm_compressor", "FP8_BLOCK", "FP8_BLOCK")

    def test_fp8_block(self):
        self.assert_agrees("fp8", "FP8_BLOCK", "FP8_BLOCK")


if __name__ == "__main__":
    unittest.main(verbosity=2)
