#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The errors of searched rounding, ours over llama.cpp's and over the reference's, on random and on trained weights.

    build/reference/bin/python benchmarks/search_error.py --ggml libggml-base.so [--models FOLDER FILE.gguf]

(sides.py says how to make build/reference, which needs the package gguf, too; the library is that of llama-cpp-python,
build/engines/llama_cpp/lib/python3.*/site-packages/llama_cpp/lib.) Writes results/search_error.json, type by type, from which
document.py makes a table of docs/quality.md. An error is the sum of importance * (quantized - weight)^2, importance
being 1 where there is none; "own" is the sum that llama.cpp's quantizer of the type makes smaller. Of q3_k, for which both
cannot be made as small as one alone, an exhaustive search of some blocks says how small they can be together.
"""

import argparse
import ctypes
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import sides
from safetensors.numpy import load_file, save_file


RESULTS = sides.REPOSITORY / "benchmarks/results/search_error.json"
GOLDENS = sides.REPOSITORY / "tests/data/goldens"
GGML = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
# Ours: data type and options; the reference's function and its arguments.
REFERENCE = {
    "Q4_1": ("opt_rtn_int_asym_float_zp", {"bits": 4, "group_size": 32}),
    "Q5_1": ("opt_rtn_int_asym_float_zp", {"bits": 5, "group_size": 32}),
    "Q2_K": ("rtn_int_asym_dq", {"bits": 2}),
    "Q3_K": ("rtn_int_sym_dq", {"bits": 3}),
    "Q4_K": ("rtn_int_asym_dq", {"bits": 4}),
    "Q5_K": ("rtn_int_asym_dq", {"bits": 5}),
    "Q6_K": ("rtn_int_sym_dq", {"bits": 6}),
    **{f"int{bits}, groups of {group}": ("opt_rtn_int_sym", {"bits": bits, "group_size": group})
       for bits in (2, 3, 4) for group in (32, 128)},
    "mx_fp4": ("opt_rtn_mx_fp4", {"bits": 4, "group_size": 32, "data_type": "mx_fp4"}),
    "mx_fp6": ("opt_rtn_mx_fp6e3m2", {"bits": 6, "group_size": 32, "data_type": "mx_fp6e3m2"}),
    "mx_fp8": ("opt_rtn_mx_fp8", {"bits": 8, "group_size": 32, "data_type": "mx_fp8"}),
    "mx_int4": ("opt_rtn_mx_int4", {"bits": 4, "group_size": 32, "data_type": "mx_int4"}),
    "nv_fp4": ("opt_rtn_nv_fp4", {"bits": 4, "group_size": 16}),
}


def ours(program, name, weight, importance):
    """[rows, cols], dequantized."""
    if name in GGML:
        dtype, options = name.lower(), {"search": True}
    else:
        dtype, options = REFERENCE[name]
    with tempfile.TemporaryDirectory() as folder:
        into, out = pathlib.Path(folder) / "in.safetensors", pathlib.Path(folder) / "out.safetensors"
        save_file({"weight": weight} | ({} if importance is None else {"imatrix": importance}), into)
        subprocess.run([program, "qdq", "--dtype", dtype, "--options", json.dumps(options), "--in", into, "--out", out],
                       check=True, stdout=subprocess.DEVNULL)
        return load_file(out)["qdq"]


def reference(name, weight, importance):
    import torch
    from auto_round.data_type import QUANT_FUNC_WITH_DTYPE

    function, options = REFERENCE[name]
    given = {} if importance is None else {"imatrix": torch.from_numpy(importance.copy())}
    return QUANT_FUNC_WITH_DTYPE[function](torch.from_numpy(weight.copy()), **options, **given)[0].float().numpy()


class LlamaCpp:
    def __init__(self, library):
        self.ggml = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        self.ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3,
                                                  ctypes.c_void_p]

    def __call__(self, name, weight, importance):
        import gguf

        kind = gguf.GGMLQuantizationType[name]
        cols, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = np.zeros((len(weight), weight.shape[1] // cols * size), np.uint8)
        self.ggml.ggml_quantize_chunk(int(kind), weight.ctypes.data, blocks.ctypes.data, 0, *weight.shape,
                                      None if importance is None else importance.ctypes.data)
        return gguf.dequantize(blocks, kind)


def own_weights(name, weight, importance):
    """llama.cpp's, of squared errors (of q2_k without importance, of magnitudes)."""
    def mean_square(width):
        return np.repeat((weight.reshape(len(weight), -1, width) ** 2).mean(-1), width, axis=1)

    size = np.abs(weight)
    if importance is not None:
        if name in ("Q6_K", "Q8_0"):
            return np.broadcast_to(importance, weight.shape)
        spread = (weight ** 2).mean(-1, keepdims=True) if name[-1] != "K" else mean_square(256) * (1 if name == "Q2_K" else 2)
        return importance * np.sqrt(spread + weight ** 2)
    if name in ("Q3_K", "Q6_K"):
        return weight ** 2
    return {"Q2_K": size, "Q4_K": size + np.sqrt(mean_square(32)),
            "Q5_K": size + np.sqrt(mean_square(32))}.get(name, np.ones_like(weight))


def errors(name, weight, importance, result):
    """(plain, own), own None where llama.cpp has no such type."""
    difference = np.abs(result.astype(np.float64) - weight)
    plain = (difference ** 2 * (1 if importance is None else importance)).sum()
    if name not in GGML:
        return plain, None
    own = difference if name == "Q2_K" and importance is None else difference ** 2
    return plain, (own * own_weights(name, weight.astype(np.float64), importance)).sum()


def stored_imatrix(program, model, folder):
    """{layer: [cols]}"""
    import gguf

    file = folder / "imatrix.gguf"
    command = [program, "run", pathlib.Path(__file__).with_name("recipe.yaml"), "--overwrite"]
    for setting in (f"model={model}", f"output={folder / 'out'}", "scheme=W4A16G32", "tuning={iters: 0, search: true}",
                    f"imatrix={{save: {file}}}"):
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {t.name.removesuffix(".in_sum2"): t.data.reshape(-1).astype(np.float32)
            for t in gguf.GGUFReader(file).tensors if t.name.endswith(".in_sum2")}


LAYERS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
          "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def weights_of(model):
    """{ggml's name: [rows, cols]} of the linear layers of a folder or a GGUF file."""
    if model.is_dir():
        tensors = {}
        for file in sorted(model.glob("*.safetensors")):
            for name, weight in load_file(file).items():
                part = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
                if part[-1] in LAYERS:
                    tensors[f"blk.{part[0]}.{LAYERS[part[1]]}.weight"] = weight.astype(np.float32)
        return tensors
    import gguf

    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(model).tensors
            if t.name.startswith("blk.") and t.name.split(".")[2] in LAYERS.values()}


def trained(program, model, rows, most):
    """[(weight, importance)] of at most so many layers, of rows that those below them fill up to whole blocks."""
    with tempfile.TemporaryDirectory() as folder:
        imatrix = stored_imatrix(program, model, pathlib.Path(folder))
    sets, weights = [], weights_of(model)
    for name in list(weights)[:: max(1, len(weights) // most)]:
        weight, times = weights[name], 256 // np.gcd(256, weights[name].shape[1])
        weight = weight[: min(len(weight), rows * times) // times * times]
        sets.append((np.ascontiguousarray(weight.reshape(-1, weight.shape[1] * times)), np.tile(imatrix[name], times)))
    return sets


def random_sets():
    recorded = load_file(GOLDENS / "gguf_llama_cpp.safetensors")
    random = np.random.default_rng(5)
    importance = np.exp(random.standard_normal(4096)).astype(np.float32)
    return {
        "recorded": [(np.concatenate([recorded["gaussian"], recorded["heavy_tailed"]]), recorded["importance"])],
        "gaussian": [((0.02 * random.standard_normal((32, 4096))).astype(np.float32), importance)],
        "heavy tails": [((0.02 * random.standard_t(4, (32, 4096))).astype(np.float32), importance)],
    }


def measure(program, llama_cpp, sets, types):
    """Yields {type, weights, importance, over: {"llama.cpp plain": ours over its, ...}}"""
    for name in types:
        for of, matrices in sets.items():
            for weighs in (False, True):
                sums = {}
                for weight, importance in matrices:
                    given = importance if weighs else None
                    results = {"ours": ours(program, name, weight, given)}
                    if name in GGML:
                        results["llama.cpp"] = llama_cpp(name, weight, given)
                    if name in REFERENCE:
                        results["reference"] = reference(name, weight, given)
                    for side, result in results.items():
                        for kind, error in zip(("plain", "own"), errors(name, weight, given, result)):
                            if error is not None:
                                sums[side, kind] = sums.get((side, kind), 0) + error
                over = {f"{side} {kind}": float(sums["ours", kind] / error) for (side, kind), error in sums.items() if side != "ours"}
                yield {"type": name, "weights": of, "importance": weighs, "over": over}
                print(name, of, "importance" if weighs else "", {key: round(value, 4) for key, value in over.items()}, flush=True)


def least_q3_k(block, weights):
    """The least sum of weights * (quantized - block)^2 of 256 elements: over every float16 d that is of use, with the best
    integer scale of each group and the nearest codes."""
    largest = np.abs(block).max()
    first, last = (np.array([0.6 / 128, 4 / 93]) * largest).astype(np.float16).view(np.uint16)
    groups, weights, least = block.reshape(16, 1, 16), weights.reshape(16, 1, 16), np.inf
    for d in np.arange(first, last + 1, dtype=np.uint16).view(np.float16).astype(np.float32):
        for scales in (np.arange(-32, 32) * d, np.arange(-32, 32) * -d):
            scales = scales[scales != 0].reshape(1, -1, 1)
            values = np.clip(np.rint(groups / scales), -4, 3) * scales
            errors = np.minimum((weights * (groups - values) ** 2).sum(-1).min(-1), (weights * groups**2).sum(-1)[:, 0])
            least = min(least, errors.sum())
    return least


def bounds_of_q3_k(program, llama_cpp, sets, count):
    """Yields {weights, importance, blocks, ours: [plain, own] over llama.cpp's, bound}: the larger of the two can be no smaller.

    For any t the larger is at least (own + t * plain) / (1 + t), and of that sum the least is found block by block."""
    name = "Q3_K"
    for of, matrices in sets.items():
        for weighs in (False, True):
            blocks = []  # (elements, weights of plain, weights of own, ours, llama.cpp's)
            for weight, importance in matrices:
                given = importance if weighs else None
                plain = np.broadcast_to(importance if weighs else np.float32(1), weight.shape)
                parts = (weight, plain, own_weights(name, weight.astype(np.float64), given), ours(program, name, weight, given),
                         llama_cpp(name, weight, given))
                parts = [np.ascontiguousarray(part, np.float64).reshape(-1, 256) for part in parts]
                blocks += list(zip(*parts))[:: max(1, len(parts[0]) * len(matrices) // count)]
            def sums(side):
                return [sum((block[kind] * (block[side] - block[0]) ** 2).sum() for block in blocks) for kind in (1, 2)]
            found, theirs = sums(3), sums(4)
            bound = max(sum(least_q3_k(block[0], block[2] / theirs[1] + t * block[1] / theirs[0]) for block in blocks) / (1 + t)
                        for t in (0.5, 1, 2))
            row = {"weights": of, "importance": weighs, "blocks": len(blocks),
                   "ours": [float(a / b) for a, b in zip(found, theirs)], "bound": float(bound)}
            print(row, flush=True)
            yield row


def main():
    parser = sides.parser(__doc__)
    parser.add_argument("--ggml", required=True, help="libggml-base.so")
    parser.add_argument("--models", nargs="+", type=pathlib.Path, default=[sides.EXAMPLE_MODEL])
    parser.add_argument("--rows", type=int, default=64, help="of a layer of a model")
    parser.add_argument("--layers", type=int, default=4, help="of a model")
    parser.add_argument("--blocks", type=int, default=24, help="of each kind of weights, searched exhaustively")
    parser.add_argument("--types", nargs="+", default=GGML + [name for name in REFERENCE if name not in GGML])
    arguments = parser.parse_args()
    out, program, llama_cpp = arguments.json or RESULTS, arguments.roundhouse, LlamaCpp(arguments.ggml)
    result = json.loads(out.read_text()) if out.exists() else {"errors": [], "bounds of Q3_K": []}
    sets = random_sets() | {model.stem: trained(program, model, arguments.rows, arguments.layers) for model in arguments.models}
    result["errors"] = [row for row in result["errors"] if row["type"] not in arguments.types]
    for row in measure(program, llama_cpp, sets, arguments.types):
        result["errors"].append(row)
        out.write_text(json.dumps(result, indent=1) + "\n")
    if "Q3_K" in arguments.types:
        result["bounds of Q3_K"] = list(bounds_of_q3_k(program, llama_cpp, sets, arguments.blocks))
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
