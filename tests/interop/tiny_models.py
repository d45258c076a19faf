# SPDX-License-Identifier: Apache-2.0
"""The tiny random models of tests/model/make_models.py, and their exports to GGUF without quantizing."""

import os
import pathlib
import shutil

import support

MODELS = pathlib.Path(os.environ.get("TINY_MODELS", support.SOURCE / "build/tests/model/models"))
# A byte each; the models have no more tokens.
CHARACTERS = [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ", "¡"]


def copy(case, folder):
    """The model in folder/tiny, with a tokenizer."""
    model = folder / "tiny"  # llama.cpp looks for families' names in it
    shutil.copytree(MODELS / case, model, ignore=shutil.ignore_patterns("reference"))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    support.write_json(model / "tokenizer.json", {
        "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
        "decoder": byte_level, "model": {"type": "BPE", "merges": [],
                                         "vocab": {c: i for i, c in enumerate(CHARACTERS)}}})
    return model


def export(case, folder, file_type="F32"):
    """The GGUF file of this model, rounded if the file type is not F32."""
    return export_model(copy(case, folder / case), folder / case, file_type)


def export_model(model, folder, file_type="F32"):
    form = {"id": "gguf", "file_type": file_type, "unquantized": "f32", "pre": "gpt-2", "omit_unknown": True}
    out = support.export(folder, model=str(model), scheme={"bits": 16} if file_type == "F32" else f"GGUF:{file_type}", tuning={"iters": 0}, formats=[form])
    (file,) = out.glob("*.gguf")
    return file
