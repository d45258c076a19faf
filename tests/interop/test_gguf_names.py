# SPDX-License-Identifier: Apache-2.0
"""The names that architecture descriptors give tensors in GGUF files, against llama.cpp's table in the package gguf."""

import pathlib
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


def looked_up(source):
    """As llama.cpp's converter has changed the name before it looks it up: experts are a stack, a correction bias is no
    bias, and what Granite stores as one is divided."""
    return (source.replace(".experts.{}.", ".experts.").replace("{}", "3")
            .replace("e_score_correction_bias", "e_score_correction")
            .replace("block_sparse_moe.experts.gate_proj", "mlp.experts.gate_proj")
            .replace("block_sparse_moe.experts.up_proj", "mlp.experts.up_proj")
            .replace("block_sparse_moe.experts.down_proj", "mlp.experts.down_proj"))


class GgufNames(unittest.TestCase):
    def test_names_are_llama_cpps(self):
        checked = 0
        for family, names in descriptors():
            table = gguf.get_tensor_name_map(ARCHITECTURES[names["architecture"]], 4)
            for source, stored in names["tensors"].items():
                if stored is None or (stored == "output" and names.get("tied_only")):
                    continue
                with self.subTest(family=family, tensor=source):
                    self.assertEqual(table.get_name(looked_up(source)), stored.replace("{}", "3").removesuffix(".bias"))
                    checked += 1
        self.assertGreater(checked, 300)

    def test_a_head_is_told_where_there_is_one(self):
        for family, names in descriptors():
            with self.subTest(family=family):
                tensors = gguf.MODEL_TENSORS[ARCHITECTURES[names["architecture"]]]
                self.assertEqual(gguf.MODEL_TENSOR.OUTPUT not in tensors, names.get("tied_only", False))

    def test_words_of_the_table_name_tensors_of_it(self):
        for family, names in descriptors():
            stored = {name.rsplit(".", 1)[-1] for name in names["tensors"].values() if name}
            for word in [*names.get("interleaved", {}), *names.get("grouped", []), *names.get("plus_one", [])]:
                with self.subTest(family=family, word=word):
                    self.assertIn(word, stored)


if __name__ == "__main__":
    unittest.main(verbosity=2)
