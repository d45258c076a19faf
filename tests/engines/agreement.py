"""How near an engine's predictions are to those of `roundhouse logits` for the same exported weights."""

import pathlib
import tempfile

import numpy as np
from safetensors.numpy import load_file

import support

TEXT = "Once upon a time, there was a little girl named Lily. She loved to play outside in the garden with her toys."


def our_logits(folder, text=TEXT):
    """Token ids [n], and logits [n, vocabulary] in float32."""
    with tempfile.TemporaryDirectory() as scratch:
        file, out = pathlib.Path(scratch) / "text.txt", pathlib.Path(scratch) / "logits.safetensors"
        file.write_text(text)
        support.roundhouse("logits", folder, "--text", file, "--out", out)
        tensors = load_file(out)
    return tensors["ids"].tolist(), tensors["logits"].astype(np.float64)


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def divergence(ours, theirs):
    """Mean KL divergence of the engine's log probabilities [n, vocabulary] from ours, in nats a token."""
    return float((np.exp(ours) * (ours - theirs)).sum(axis=-1).mean())


def relative_error(ours, theirs):
    """Root mean square difference of log probabilities, relative to the spread of ours over the vocabulary.

    Unlike the divergence it does not vanish when a random model predicts all tokens alike."""
    return float(np.sqrt(((ours - theirs) ** 2).mean()) / ours.std(axis=-1).mean())


def wrong_choices(ours, tokens, margin):
    """The tokens that are not our most likely ones, where ours leads them by more than `margin` nats.

    `tokens` [n] follow the positions of `ours` [n, vocabulary]."""
    lead = ours.max(axis=-1) - ours[np.arange(len(tokens)), tokens]
    return [(int(position), float(lead[position])) for position in np.flatnonzero(lead > margin)]
