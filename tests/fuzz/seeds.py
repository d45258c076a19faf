# SPDX-License-Identifier: Apache-2.0
"""Writes what fuzzing starts from: python seeds.py TARGET FOLDER. Files of the tests, and what was found."""
import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
DATA = TESTS / "data"
CONFIGS = TESTS.parent / "configs"
LARGEST = 64 << 10
# As in tokenizer.cpp.
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "tekken.json",
                   "tiktoken.model", "vocab.txt"]


def files(folder, pattern):
    return [path.read_bytes() for path in sorted(folder.rglob(pattern)) if path.is_file()]


def tokenizers():
    return [bytes([i]) + content for i, name in enumerate(TOKENIZER_FILES) for content in files(DATA, name)]


def checkpoints():
    return [path.read_bytes() + b"\0" + (path.parent / "model.safetensors").read_bytes()
            for path in sorted(DATA.rglob("config.json")) if (path.parent / "model.safetensors").exists()]


SEEDS = {
    "safetensors": lambda: files(DATA, "*.safetensors") + files(DATA, "*.index.json"),
    "gguf": lambda: files(DATA, "*.gguf"),
    "imatrix": lambda: files(DATA, "*.dat") + files(DATA, "*.gguf"),
    "tokenizer": tokenizers,
    "chat_template": lambda: files(DATA / "jinja/templates", "*"),
    "recipe": lambda: files(TESTS / "recipe", "*.yaml") + files(CONFIGS / "recipes", "*.yaml"),
    "presets": lambda: files(CONFIGS / "schemes", "*.yaml"),
    "descriptor": lambda: files(CONFIGS / "architectures", "*.yaml"),
    "config": lambda: files(DATA, "config.json"),
    "encoding": lambda: [],
    "scan_result": lambda: [],
    "format": lambda: checkpoints() + files(DATA, "*.gguf"),
}

target, folder = sys.argv[1], pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
for number, seed in enumerate(SEEDS[target]() + files(TESTS / "fuzz/found" / target, "*")):
    if len(seed) <= LARGEST:
        (folder / f"seed-{number}").write_bytes(seed)
