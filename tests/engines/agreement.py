# SPDX-License-Identifier: Apache-2.0
"""How near an engine's predictions are to those of `roundhouse logits` for the same exported weights."""

import pathlib
import shutil
import tempfile
import unittest

import numpy as np
from safetensors.numpy import load_file, save_file

import support

TEXT = ("Once upon a time, there was a little girl named Lily. She loved to play outside in the garden with her toys. "
        "One day, her mother asked her to help the old man next door. Lily was scared of his big dog, but she wanted to be "
        "kind. She took a deep breath and")
STORIES = support.EXAMPLES / "tinystories-656k"  # width 128, SentencePiece, tied head
TINY = support.DATA / "models" / "tiny-llama"  # random, width 256, byte-level BPE, head of its own
GENERATED = 20  # tokens


def wide_stories(folder):
    """`STORIES` as a model of width 256 with heads of 32, which computes the same: engines have kernels for neither 128
    columns in k-quants nor heads of 16. Zeros fill the new rows and columns."""
    model = pathlib.Path(folder) / "wide-stories"
    shutil.copytree(STORIES, model)
    config = support.read_json(STORIES / "config.json")
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"],
             "v_proj": config["num_key_value_heads"], "o_proj": config["num_attention_heads"]}
    # Feature i of a head and i + 8 rotate together, by an angle of theta ** (-i / 8). Of 32 features, those are 2i and
    # 2i + 16.
    spread = np.concatenate([np.arange(8) * 2, np.arange(8) * 2 + 16])

    def wide_heads(weight, count):  # [count * 16, n] -> [count * 32, n]
        wide = np.zeros((count, 32, weight.shape[1]), weight.dtype)
        wide[:, spread] = weight.reshape(count, 16, -1)
        return wide.reshape(count * 32, -1)

    tensors = {}
    for name, weight in load_file(STORIES / "model.safetensors").items():
        part = name.split(".")[-2]
        if part == "o_proj":
            weight = wide_heads(weight.T, heads[part]).T
        elif part in heads:
            weight = wide_heads(weight, heads[part])
        if part == "q_proj":
            weight = weight * np.sqrt(2)  # scores are divided by the root of a head's size
        if "norm" in part:
            weight = weight / np.sqrt(2)  # the mean square is over twice as many features
        of_heads = 1 if part == "o_proj" else 0 if part in heads else None
        shape = [extent if axis == of_heads else {128: 256, 384: 512}.get(extent, extent)
                 for axis, extent in enumerate(weight.shape)]
        wide = np.zeros(shape, np.float16)
        wide[tuple(slice(extent) for extent in weight.shape)] = weight
        tensors[name] = wide
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    config |= {"hidden_size": 256, "intermediate_size": 512, "head_dim": 32, "torch_dtype": "float16",
               "rms_norm_eps": config["rms_norm_eps"] / 2}
    support.write_json(model / "config.json", config)
    return model


def our_logits(folder, ids=None):
    """Token ids [n], TEXT's if not given, and logits [n, vocabulary]."""
    with tempfile.TemporaryDirectory() as scratch:
        file, out = pathlib.Path(scratch) / "text.txt", pathlib.Path(scratch) / "logits.safetensors"
        file.write_text(TEXT)
        what = ["--ids", ",".join(map(str, ids))] if ids else ["--text", file]
        support.roundhouse("logits", folder, *what, "--out", out)
        tensors = load_file(out)
    return tensors["ids"].tolist(), tensors["logits"].astype(np.float64)


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


class Case(unittest.TestCase):
    # How far rounding of activations takes the engine's log probabilities from ours, which are in float32.
    divergence: float  # mean, nats a token
    relative_error: float  # root mean square, of the spread of ours over the vocabulary
    margin: float  # nats by which two tokens may change places

    def wrong_choices(self, ours, tokens):
        """The positions, of `ours` [n, vocabulary], whose token of `tokens` [n] is not our most likely one, with the
        lead of ours where rounding does not explain it."""
        lead = ours.max(axis=-1) - ours[np.arange(len(tokens)), tokens]
        return [(int(position), float(lead[position])) for position in np.flatnonzero(lead > self.margin)]

    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return pathlib.Path(folder.name)

    def export(self, model, form, scheme, **recipe):
        return support.export(self.folder(), model=str(model), scheme=scheme, tuning={"iters": 0}, formats=[form], **recipe)

    def assert_agrees(self, name, ids, ours, theirs):
        """`ours`, `theirs`: log probabilities [n, vocabulary] of what follows each of `ids`, but for the last n of them
        perhaps."""
        divergence = float((np.exp(ours) * (ours - theirs)).sum(axis=-1).mean())
        # Unlike the divergence this does not vanish when a random model predicts all tokens alike.
        error = float(np.sqrt(((ours - theirs) ** 2).mean()) / ours.std(axis=-1).mean())
        next_ids = ids[1:len(ours) + 1]
        perplexities = [np.exp(-x[np.arange(len(next_ids)), next_ids].mean()) for x in (ours, theirs)]
        print(f"{name}: divergence {divergence:.1e}, relative error {error:.4f}, perplexity {perplexities[1]:.4f}, "
              f"ours {perplexities[0]:.4f}", flush=True)
        self.assertLess(divergence, self.divergence)
        self.assertLess(error, self.relative_error)
        self.assertLess(abs(np.log(perplexities[1] / perplexities[0])), self.relative_error)
        self.assertEqual(self.wrong_choices(ours, theirs.argmax(axis=-1)), [], "position, lead of our token")

    def assert_same_story(self, folder, prompt, told):
        """The engine went on from the ids `prompt` with the ids `told`, each its most likely one."""
        self.assertEqual(len(told), GENERATED)
        _, logits = our_logits(folder, prompt + told)
        ours = log_softmax(logits[len(prompt) - 1:-1])
        self.assertEqual(self.wrong_choices(ours, told), [], "position in the story, lead of our token")
        print(f"  {sum(ours.argmax(axis=-1) == told)} of {len(told)} tokens of the story are our first choice", flush=True)
