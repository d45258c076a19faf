"""vLLM on the CPU loads our exports, predicts what `roundhouse logits` predicts, and tells the same stories."""

import gc
import os
import unittest

import numpy as np

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1",
               "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
from vllm import LLM, SamplingParams  # noqa: E402, reads the environment

import agreement  # noqa: E402

ASYMMETRIC = {"preset": "W4A16", "sym": False}


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

    def assert_tells_the_same_story(self, form, scheme):
        out = self.export(agreement.wide_stories(self.folder()), form, scheme)
        prompt, logits = agreement.our_logits(out)
        theirs, told = self.generate(out, prompt)
        self.assert_agrees(f"{form} {scheme}, vLLM", prompt, agreement.log_softmax(logits[:-1]), theirs)
        self.assert_same_story(out, prompt, told)

    def test_auto_round(self):
        self.assert_tells_the_same_story("auto_round", "W4A16")

    def test_auto_gptq(self):
        self.assert_tells_the_same_story("auto_gptq", "W4A16")

    def test_auto_awq(self):
        self.assert_tells_the_same_story("auto_awq", "W4A16")

    def test_auto_awq_asymmetric(self):
        self.assert_tells_the_same_story("auto_awq", ASYMMETRIC)

    def test_llm_compressor(self):
        self.assert_tells_the_same_story("llm_compressor", "W4A16")

    def test_llm_compressor_asymmetric(self):
        self.assert_tells_the_same_story("llm_compressor", ASYMMETRIC)

    def test_llm_compressor_int8(self):
        self.assert_tells_the_same_story("llm_compressor", "INT8")

    def test_llm_compressor_fp8_block(self):
        self.assert_tells_the_same_story("llm_compressor", "FP8_BLOCK")

    def test_fp8_block(self):
        self.assert_tells_the_same_story("fp8", "FP8_BLOCK")


if __name__ == "__main__":
    unittest.main(verbosity=2)
