# SPDX-License-Identifier: Apache-2.0
"""Records tests/data/goldens/gguf_llama_cpp.safetensors: weights, an importance, and llama.cpp's own blocks of them.

    python tests/dtypes/record_llama_cpp.py libggml-base.so tests/data/goldens/gguf_llama_cpp.safetensors
    (needs numpy, gguf, safetensors; the library is the target ggml-base of llama.cpp, built with GGML_NATIVE=OFF)
"""
import ctypes
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

ROWS, COLS = 4, 512
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


def pointer(array):
    return None if array is None else array.ctypes.data_as(ctypes.c_void_p)


def main(library, path):
    ggml = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    int64, address = ctypes.c_int64, ctypes.c_void_p
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, address, address, int64, int64, int64, address]

    random = np.random.default_rng(11)
    weights = {
        "gaussian": 0.02 * random.standard_normal((ROWS, COLS)),
        "heavy_tailed": 0.02 * random.standard_t(3, (ROWS, COLS)),
    }
    tensors = {name: weight.astype(np.float32) for name, weight in weights.items()}
    tensors["importance"] = np.exp(random.standard_normal(COLS)).astype(np.float32)
    for weight in weights:
        for name in TYPES:
            kind = gguf.GGMLQuantizationType[name]
            block_cols, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            for importance in (None, tensors["importance"]):
                blocks = np.zeros((ROWS, COLS // block_cols * block_bytes), np.uint8)
                ggml.ggml_quantize_chunk(
                    int(kind), pointer(tensors[weight]), pointer(blocks), 0, ROWS, COLS, pointer(importance)
                )
                tensors[f"{name.lower()}.{weight}{'' if importance is None else '.importance'}"] = blocks
    save_file(tensors, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
