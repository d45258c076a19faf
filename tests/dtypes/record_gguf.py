# SPDX-License-Identifier: Apache-2.0
"""Records tests/data/goldens/gguf_blocks.safetensors: random ggml blocks and what the Python package gguf decodes them to.

    python tests/dtypes/record_gguf.py tests/data/goldens/gguf_blocks.safetensors     (needs numpy, gguf, safetensors)
"""
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

ROWS, COLS = 4, 512
HALVES = {  # offsets of the float16 values in a block
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}


def main(path):
    random = np.random.default_rng(7)
    tensors = {}
    for name, halves in HALVES.items():
        kind = gguf.GGMLQuantizationType[name]
        block_cols, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (ROWS * COLS // block_cols, block_bytes), dtype=np.uint8)
        for at in halves:
            values = (0.01 * random.standard_normal(len(blocks))).astype(np.float16)
            blocks[:, at : at + 2] = values.view(np.uint8).reshape(-1, 2)
        blocks = blocks.reshape(ROWS, -1)
        tensors[f"{name.lower()}.blocks"] = blocks
        tensors[f"{name.lower()}.weight"] = gguf.quants.dequantize(blocks, kind).astype(np.float32)
    save_file(tensors, path)


if __name__ == "__main__":
    main(sys.argv[1])
