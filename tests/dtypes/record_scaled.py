# SPDX-License-Identifier: Apache-2.0
"""Records further results of auto-round 0.16.1 for scaled small floats, and lists them in tests/data/goldens/*.json.

    python tests/dtypes/record_scaled.py     (with auto-round 0.16.1 and torch 2.11 on the CPU)

Cases of weights are run as the other goldens. Activation cases hold `input` and, calibrated, the `statistic`.
"""

import json
import pathlib

import torch
from auto_round.data_type import QUANT_FUNC_WITH_DTYPE
from safetensors.torch import save_file

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "data" / "goldens"
LISTS = {"fp8": "fp8", "block_fp8": "fp8", "mx": "mxfp", "nv": "nvfp"}


def random_tensor(shape, dtype, seed, outliers=True):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * 0.05
    if outliers:
        x[0, :4] *= 20
        x[1, 16:32] = 0
    return x.to(dtype)


def importance(cols, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(cols, generator=generator) * 10
    x[3] = 0  # a channel that no input excited
    x[cols - 32 : cols - 8] = 0  # most of a group
    return x


def weight_cases():
    for dtype in (torch.float32, torch.bfloat16):
        for name, bits, group in [
            ("opt_rtn_nv_fp4", 4, 16),
            ("opt_rtn_mx_fp4", 4, 32),
            ("opt_rtn_mx_fp6e3m2", 6, 32),
            ("opt_rtn_mx_fp8", 8, 32),
        ]:
            for imatrix in (False, True):
                data_type = name.removeprefix("opt_rtn_")
                yield name, {"bits": bits, "group_size": group, "data_type": data_type, "imatrix": imatrix}, dtype
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        yield "block_fp8", {"bits": 8, "group_size": [128, 128]}, dtype
        yield "fp8_e4m3", {"bits": 8, "group_size": -1}, dtype
        yield "mx_fp4", {"bits": 4, "group_size": 32, "data_type": "mx_fp4"}, dtype
        yield "nv_fp4", {"bits": 4, "group_size": 16}, dtype


def record_weights():
    for i, (name, options, dtype) in enumerate(weight_cases()):
        shape = (8, 72) if name.endswith("nv_fp4") and i % 2 else (8, 64)
        weight = random_tensor(shape, dtype, 100 + i)
        tensors = {"weight": weight}
        arguments = {k: v for k, v in options.items() if k != "imatrix"}
        if isinstance(arguments["group_size"], list):
            arguments["group_size"] = tuple(arguments["group_size"])
        if options.get("imatrix"):
            tensors["imatrix"] = importance(shape[1], i)
            arguments["imatrix"] = tensors["imatrix"]
        qdq, scale, _ = QUANT_FUNC_WITH_DTYPE[name](weight.clone(), **arguments)
        tensors["qdq"] = qdq
        if name != "block_fp8":  # whose scale has the weight's type there
            tensors["scale"] = scale
        yield name, {"cases": save(name, f"w{i:02}", options, tensors, weight)}


def record_activations():
    cases = [
        ("fp8_e4m3", {"bits": 8, "group_size": 0, "dynamic": False}, "scale"),
        ("fp8_e5m2", {"bits": 8, "group_size": 0, "dynamic": False}, "scale"),
        ("fp8_e4m3", {"bits": 8, "group_size": 0}, None),
        ("fp8_e4m3", {"bits": 8, "group_size": -1}, None),
        ("fp8_e4m3", {"bits": 8, "group_size": 32}, None),
        ("mx_fp4_rceil", {"bits": 4, "group_size": 32, "data_type": "mx_fp4_rceil"}, None),
        ("mx_int4", {"bits": 4, "group_size": 32, "data_type": "mx_int4"}, None),
        ("nv_fp4_with_static_gs", {"bits": 4, "group_size": 16}, "global_scale"),
        ("nv_fp4", {"bits": 4, "group_size": 16}, None),
        ("nvfp4_v2", {"bits": 4, "group_size": 16}, None),
    ]
    for i, (name, options, calibrated) in enumerate(cases):
        value = random_tensor((5, 64), torch.bfloat16, 200 + i)
        tensors = {"input": value}
        arguments = {k: v for k, v in options.items() if k != "dynamic"}
        if calibrated:
            tensors["statistic"] = value.float().abs().max().reshape(1) * 0.75  # some are clamped
            arguments["tensor_max"] = tensors["statistic"]
        tensors["qdq"], scale, _ = QUANT_FUNC_WITH_DTYPE[name](value.clone(), **arguments)
        if calibrated == "scale":
            tensors["scale"] = scale.reshape(1)
        elif calibrated:
            tensors["global_scale"] = 448.0 * 6.0 * (1.0 / tensors["statistic"])
        yield name, {"activations": save(name, f"a{i:02}", options, tensors, value)}
    # A weight with siblings: the statistic is theirs.
    weight = random_tensor((8, 64), torch.bfloat16, 300)
    largest = weight.float().abs().max().reshape(1) * 2
    qdq, scale, _ = QUANT_FUNC_WITH_DTYPE["nv_fp4"](
        weight.clone(), group_size=16, global_scale=448.0 * 6.0 * (1.0 / largest)
    )
    tensors = {"weight": weight, "statistic": largest, "qdq": qdq, "scale": scale}
    yield "nv_fp4", {"shared": save("nv_fp4", "shared", {"bits": 4, "group_size": 16}, tensors, weight)}


def save(name, number, options, tensors, value):
    shape = list(value.shape)
    file = f"scaled_{number}_{name}_{shape[0]}x{shape[1]}.safetensors"
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, GOLDENS / file)
    return {
        "file": file,
        "dtype": name,
        "options": options,
        "weight_dtype": str(value.dtype).removeprefix("torch."),
        "shape": shape,
        "tensors": sorted(tensors),
    }


def write_list(path, content):
    lines = []
    for key, value in content.items():
        if isinstance(value, list):
            value = "[\n" + ",\n".join("  " + json.dumps(case) for case in value) + "\n ]"
        else:
            value = json.dumps(value)
        lines.append(f" {json.dumps(key)}: {value}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    lists = {name: json.loads((GOLDENS / f"{name}.json").read_text()) for name in set(LISTS.values())}
    for content in lists.values():
        content["cases"] = [case for case in content["cases"] if not case["file"].startswith("scaled_")]
        content.pop("activations", None)
        content.pop("shared", None)
    for name, entry in [*record_weights(), *record_activations()]:
        stem = name.removeprefix("opt_rtn_")
        family = LISTS["block_fp8" if stem.startswith("block") else "fp8" if stem.startswith("fp8") else stem[:2]]
        for key, case in entry.items():
            lists[family].setdefault(key, []).append(case)
    for name, content in lists.items():
        write_list(GOLDENS / f"{name}.json", content)


if __name__ == "__main__":
    main()
