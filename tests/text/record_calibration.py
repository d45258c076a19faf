# SPDX-License-Identifier: Apache-2.0
"""Records the samples that the reference (auto-round 0.16.1) takes from local files.

    record_calibration.py FOLDER    writes FOLDER/calibration.json for the requests below

FOLDER holds the data files and tokenizers/<name>/tokenizer.json.
"""

import json
import os
import pathlib
import sys

os.environ["AR_DISABLE_DATASET_SUBPROCESS"] = "1"

from auto_round.calib_dataset import get_dataloader  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

REQUESTS = [
    {"data": "stories.jsonl", "tokenizer": "tinystories-656k", "samples": 8, "seqlen": 64, "seed": 42},
    {"data": "stories.jsonl", "tokenizer": "tinystories-656k", "samples": 1000, "seqlen": 200, "seed": 7},
    {"data": "stories.jsonl", "tokenizer": "made-llama2", "samples": 5, "seqlen": 100, "seed": 1 << 40},
    {"data": "records.json", "tokenizer": "stories260K", "samples": 10, "seqlen": 16, "seed": 0},
    {"data": "named_records.json", "tokenizer": "made-gpt2", "samples": 10, "seqlen": 9, "seed": 42},
]


def record(folder, request):
    tokenizer_file = folder / "tokenizers" / request["tokenizer"] / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file))
    data = str(folder / request["data"])
    loader = get_dataloader(tokenizer, request["seqlen"], data, request["seed"], 4, request["samples"])
    samples = [sample for batch in loader if batch is not None for sample in batch["input_ids"].tolist()]
    return {**request, "expected": samples}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    recorded = [record(folder, request) for request in REQUESTS]
    (folder / "calibration.json").write_text(json.dumps(recorded, separators=(",", ":")), encoding="utf-8")
