"""llama.cpp loads our GGUF files, splits text as we do, and computes what `roundhouse logits` computes."""

import os
import pathlib
import subprocess
import tempfile
import unittest

import numpy as np
from llama_cpp import Llama

import agreement
import support

STORIES = support.EXAMPLES / "tinystories-656k"  # width 128: k-quants fall back to other types
TINY = support.DATA / "models" / "tiny-llama"  # width 256, random

# llama.cpp rounds activations to 8 bits in blocks, and keeps keys and values in float16; ours are float32.
DIVERGENCE = 1e-3
RELATIVE_ERROR = 0.03
MARGIN = 0.05
GENERATED = 20


def our_tokens(folder):
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "text.txt"
        file.write_text(agreement.TEXT)
        command = [os.environ["ROUNDHOUSE"], "tokenize", "--model", folder, "--text", file]
        return [int(word) for word in subprocess.check_output(command, text=True).replace(",", " ").split()]


class LlamaCpp(unittest.TestCase):
    def load(self, model, preset):
        """The export's folder, and the engine with it."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        out = support.export(folder.name, model=str(model), scheme=f"GGUF:{preset}", tuning={"iters": 0},
                             formats=["gguf"])
        (file,) = out.glob("*.gguf")
        engine = Llama(str(file), n_ctx=256, logits_all=True, n_gpu_layers=0, n_threads=2, verbose=False)
        self.addCleanup(engine.close)
        return out, engine

    def assert_agrees(self, model, preset):
        out, engine = self.load(model, preset)
        ids, logits = agreement.our_logits(out)
        self.assertEqual(engine.tokenize(agreement.TEXT.encode(), special=True), ids)
        self.assertEqual(our_tokens(model), ids)
        ours = agreement.log_softmax(logits)
        engine.eval(ids)
        theirs = agreement.log_softmax(np.array(engine.scores[:len(ids)], dtype=np.float64))
        divergence, error = agreement.divergence(ours, theirs), agreement.relative_error(ours, theirs)
        print(f"gguf {preset} of {model.name}, llama.cpp: divergence {divergence:.1e}, relative error {error:.4f}")
        self.assertLess(divergence, DIVERGENCE)
        self.assertLess(error, RELATIVE_ERROR)
        self.assertEqual(agreement.wrong_choices(ours, theirs.argmax(axis=-1), MARGIN), [])
        return out, engine, ids

    def assert_tells_the_same_story(self, preset):
        out, engine, prompt = self.assert_agrees(STORIES, preset)
        engine.reset()
        told = [token for token, _ in zip(engine.generate(prompt, temp=0.0), range(GENERATED))]
        ids, logits = agreement.our_logits(out, agreement.TEXT + engine.detokenize(told, prompt).decode())
        self.assertEqual(ids, prompt + told)
        ours = agreement.log_softmax(logits[len(prompt) - 1:-1])
        self.assertEqual(agreement.wrong_choices(ours, told, MARGIN), [], "position in the story, lead of our token")

    def test_q8_0_story(self):
        self.assert_tells_the_same_story("Q8_0")

    def test_q4_0_story(self):
        self.assert_tells_the_same_story("Q4_0")

    def test_q4_k_m_story(self):
        self.assert_tells_the_same_story("Q4_K_M")

    def test_random_model(self):
        for preset in ["Q2_K_S", "Q3_K_M", "Q4_K_M", "Q5_K_S", "Q6_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]:
            with self.subTest(preset):
                self.assert_agrees(TINY, preset)


if __name__ == "__main__":
    unittest.main(verbosity=2)
