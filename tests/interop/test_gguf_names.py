# SPDX-License-Identifier: Apache-2.0
"""The names that architecture descriptors give tensors in GGUF files, against llama.cpp's table in the package gguf."""

import pathlib
import re
import unittest

import gguf
import yaml

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs/architectures"
ARCHITECTURES = {name: architecture for architecture, name in gguf.MODEL_ARCH_NAMES.items()}


def descriptors():
    """Those with names in GGUF, with the words of their first spelling in place."""
    for file in sorted(FOLDER.glob("*.yaml")):
        text = file.read_text()
        for word, spelled in (yaml.safe_load(text).get("spellings") or [{}])[0].items():
            text = text.replace("{%s}" % word, spelled)
        names = yaml.safe_load(text).get("names", {}).get("gguf")
        if names:
            yield file.stem, names


def pairs(names):
    """Names of the source and of the file, all that a descriptor may choose; of two tensors each."""
    for source, stored in names["tensors"].items():
        for chosen in [choice["value"] for choice in stored["choose"]] if isinstance(stored, dict) else [stored]:
            for name in chosen if isinstance(chosen, list) else [chosen]:
                if name is not None:
                    yield source, name


# llama.cpp's converter gives these their names itself, or divides them.
GIVEN = ("in_proj_qkvz", "kv_b_proj", "router.scale", "router.per_expert_scale", "shared_mlp.input_linear",
         "shared_mlp.output_linear", "feed_forward.experts.{}.w1", "feed_forward.experts.{}.w2", "feed_forward.experts.{}.w3",
         "layers.{}.experts.{}.gate_proj", "layers.{}.experts.{}.up_proj", "mixer.experts.{}.up_proj",
         "mixer.experts.{}.down_proj")
# The package's table lacks it, and llama.cpp loads it.
HEADS = ["lfm2_moe"]


def looked_up(source):
    """As llama.cpp's converter has changed the name before it looks it up: experts are a stack, a correction bias is no
    bias, and what Granite stores as one is divided."""
    return (source.replace(".experts.{}.", ".experts.").replace("{}", "3")
            .replace("language_model.model.", "model.").replace("model.language_model.", "model.")
            .replace("language_model.lm_head", "lm_head").replace(".dt_bias", ".dt_proj")
            .replace("e_score_correction_bias", "e_score_correction")
            .replace("block_sparse_moe.experts.gate_proj", "mlp.experts.gate_proj")
            .replace("block_sparse_moe.experts.up_proj", "mlp.experts.up_proj")
            .replace("block_sparse_moe.experts.down_proj", "mlp.experts.down_proj"))


WORDS = ["interleaved", "grouped", "latent", "key_heads", "tiled", "tiled_columns", "plus_one", "minus_exp", "shapes"]


class GgufNames(unittest.TestCase):
    def test_names_are_llama_cpps(self):
        checked = 0
        for family, names in descriptors():
            architecture = ARCHITECTURES[names.get("with_experts", names["architecture"])]
            table = gguf.get_tensor_name_map(architecture, 4)
            tensors = {name.format(bid=3) for name in gguf.TENSOR_NAMES.values()}
            for source, stored in pairs(names):
                if stored == "output" and (names.get("tied_only") or family in HEADS):
                    continue
                stored = re.sub(r"\.(weight|bias|scale)$", "", stored.replace("{}", "3"))
                with self.subTest(family=family, tensor=source):
                    if source.endswith(GIVEN):
                        self.assertIn(stored, tensors)
                    else:
                        found = table.get_name(looked_up(source)) or table.get_name(looked_up(source) + ".weight")
                        self.assertEqual(found, stored)
                    checked += 1
        self.assertGreater(checked, 900)

    def test_a_head_is_told_where_there_is_one(self):
        for family, names in descriptors():
            with self.subTest(family=family):
                tensors = gguf.MODEL_TENSORS[ARCHITECTURES[names["architecture"]]]
                self.assertEqual(gguf.MODEL_TENSOR.OUTPUT not in tensors, names.get("tied_only", False) or family in HEADS)

    def test_words_of_the_table_name_tensors_of_it(self):
        for family, names in descriptors():
            stored = {re.sub(r"\.(weight|bias)$", "", name).rsplit(".", 1)[-1] for _, name in pairs(names)}
            for word in (word for key in WORDS for word in names.get(key, [])):
                with self.subTest(family=family, word=word):
                    self.assertIn(word, stored)


if __name__ == "__main__":
    unittest.main(verbosity=2)
