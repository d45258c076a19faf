# SPDX-License-Identifier: Apache-2.0
"""`roundhouse schema` against every recipe of the tests and of configs/recipes: what the program reads is valid by a
JSON Schema library too, and what it refuses without looking at another file is not."""

import json
import os
import pathlib
import re
import subprocess
import unittest

import fastjsonschema
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CASES = REPOSITORY / "tests/recipe/cases"
# What no schema can say: it is about other files, a day of the calendar, text that is no YAML, or an expression.
ELSEWHERE = {"error_data_missing", "error_date", "error_duplicate_key", "error_imatrix_save_over_texts", "error_model_missing",
             "error_output_over_model", "error_regex", "error_syntax", "error_tab"}


class Loader(yaml.SafeLoader):
    """As YAML 1.2: dates and `yes` are texts, 1e-5 is a number."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, re.compile("^(true|false)$") if tag.endswith(":bool") else pattern) for tag, pattern in resolvers
            if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


def load(file):
    return yaml.load(file.read_text(), Loader)


class Schema(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schema = json.loads(subprocess.run([os.environ["ROUNDHOUSE"], "schema"], check=True, capture_output=True).stdout)
        cls.validate = staticmethod(fastjsonschema.compile(cls.schema))

    def is_valid(self, recipe):
        try:
            self.validate(recipe)
        except fastjsonschema.JsonSchemaValueException:
            return False
        return True

    def test_cases_that_are_read(self):
        files = [file for file in CASES.glob("*.yaml") if file.with_suffix(".resolved").exists() and "--set" not in file.read_text()
                 and file.stem != "full"]  # it gives plugins options that they do not have, and is read without plugins
        self.assertGreater(len(files), 5)
        for file in files + sorted((REPOSITORY / "configs/recipes").glob("*.yaml")) + list(REPOSITORY.glob("benchmarks/*.yaml")):
            with self.subTest(file.name):
                self.validate(load(file))

    def test_cases_that_are_refused(self):
        files = [file for file in CASES.glob("error_*.yaml") if "--set" not in file.read_text() and file.stem not in ELSEWHERE]
        self.assertGreater(len(files), 30)
        for file in files:
            with self.subTest(file.name):
                self.assertFalse(self.is_valid(load(file)))

    def test_options_of_plugins(self):
        recipe = {"version": 1, "model": "m", "output": "o", "scheme": "w4a16", "formats": ["gguf:q4_k_m"]}
        self.assertTrue(self.is_valid(recipe))
        for key, right, wrong in (
                ("formats", [{"id": "gguf", "file_type": "Q4_K_M"}], [{"id": "gguf", "file_type": "Q9"}]),
                ("formats", [{"id": "llm_compressor", "output_dtype": "bfloat16"}], [{"id": "llm_compressor", "dtype": "bfloat16"}]),
                ("scheme", {"data_type": "int", "options": {"mirrored": True}}, {"data_type": "int", "options": {"mirrored": 1}}),
                ("layers", [{"match": "a", "scheme": "none"}], [{"match": "a", "scheme": "nothing"}])):
            with self.subTest(key):
                self.assertTrue(self.is_valid(recipe | {key: right}))
                self.assertFalse(self.is_valid(recipe | {key: wrong}))

    def test_every_key_of_the_docs(self):
        """The other way round, a key without a row is an error of the program."""
        document = (REPOSITORY / "docs/recipes.md").read_text()
        keys = re.findall(r"^\| `([a-z_.]+)` \|", document[document.index("\n## Keys"):document.index("\n## Examples")], re.MULTILINE)
        self.assertGreater(len(keys), 30)
        for key in keys:
            with self.subTest(key):
                at = self.schema
                for name in key.split("."):
                    at = at["properties"][name]
                self.assertTrue(at["description"])


if __name__ == "__main__":
    unittest.main()
