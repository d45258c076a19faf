# SPDX-License-Identifier: Apache-2.0
"""Records calls of the reference's integer data types (auto-round 0.16.1 on the CPU) that tests/data/goldens had not:
mirrored ranges, searched scales and activations. Writes the safetensors files and int_more.json beside the others, and
activation/ with its own list.

usage: record_affine.py FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from auto_round.data_type.int import (
    quant_tensor_asym,
    quant_tensor_opt_rtn_sym,
    quant_tensor_sym,
    quant_tensor_sym_gptq,
)
from safetensors.torch import save_file

SEED = 11
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


class Recorder:
    def __init__(self, folder: Path, first: int):
        self.folder, self.next, self.cases = folder, first, []
        folder.mkdir(exist_ok=True)

    def add(self, dtype, options, tensors, element):
        rows, cols = tensors["qdq"].shape
        file = f"{self.next:03}_{dtype}_{rows}x{cols}.safetensors"
        self.next += 1
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, self.folder / file)
        case = {"file": file, "dtype": dtype, "options": options, "weight_dtype": NAMES[element], "shape": [rows, cols]}
        self.cases.append(case | {"tensors": sorted(tensors)})

    def write(self, name):
        lines = ",\n".join("  " + json.dumps(case) for case in self.cases)
        head = json.dumps({"reference": f"auto-round 0.16.1, torch {torch.__version__}, CPU", "seed": SEED})[:-1]
        (self.folder / name).write_text(f'{head}, "cases": [\n{lines}\n]}}\n')


def mirrored(recorder, bits, group, shape, element, tuned, scale_dtype=torch.float16):
    weight = (torch.randn(shape) * 0.05).to(element)
    weight[0, :8].abs_()
    groups = -(-shape[1] // group)
    tensors = {"weight": weight}
    tunables = {}
    if tuned:
        tunables = {
            "v": torch.rand(shape[0] * groups, group) - 0.5,
            "min_scale": 0.7 + 0.3 * torch.rand(shape[0] * groups),
            "max_scale": 0.7 + 0.3 * torch.rand(shape[0] * groups),
        }
        for t in tunables.values():
            t.requires_grad_()
    qdq, scale, _ = quant_tensor_sym_gptq(weight, bits=bits, group_size=group, scale_dtype=scale_dtype, **tunables)
    if tuned:
        tensors["grad_qdq"] = torch.randn(shape).to(element)
        qdq.backward(tensors["grad_qdq"])
        tensors |= tunables | {f"grad_{name}": t.grad for name, t in tunables.items()}
    tensors |= {"qdq": qdq, "scale": scale}  # zp is 2^(bits-1) everywhere
    options = {"bits": bits, "group_size": group, "scale_dtype": NAMES[scale_dtype]}
    recorder.add("int_sym_gptq", options, tensors, element)


def searched(recorder, bits, group, shape, element, zeros):
    weight = (torch.randn(shape) * 0.05).to(element)
    imatrix = torch.rand(shape[1]) * 3 + 0.01
    imatrix[:zeros] = 0
    qdq, scale, _ = quant_tensor_opt_rtn_sym(weight, bits=bits, group_size=group, imatrix=imatrix)
    tensors = {"weight": weight, "imatrix": imatrix, "qdq": qdq, "scale": scale}
    recorder.add("opt_rtn_int_sym", {"bits": bits, "group_size": group, "imatrix": True}, tensors, element)


def activation(recorder, name, bits, group, shape, element):
    x = (torch.randn(shape) * 2).to(element)
    x[1] = 0
    x[2] = x[2].abs() + 1
    x.requires_grad_()
    one = torch.tensor(1.0)
    quantize = {"int_sym": quant_tensor_sym, "int_asym": quant_tensor_asym}[name]
    qdq, _, _ = quantize(x, bits=bits, group_size=group, min_scale=one, max_scale=one)
    grad_qdq = torch.randn(shape).to(element)
    qdq.backward(grad_qdq)
    tensors = {"input": x, "qdq": qdq, "grad_qdq": grad_qdq, "grad_input": x.grad}
    recorder.add(name, {"bits": bits, "group_size": group}, tensors, element)


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    f32, bf16, f16 = torch.float32, torch.bfloat16, torch.float16
    folder = Path(sys.argv[1])

    weights = Recorder(folder, 200)
    for bits in (2, 3, 4, 8):
        mirrored(weights, bits, 32, (8, 64), f32, tuned=True, scale_dtype=f32)
        mirrored(weights, bits, 128, (8, 200), bf16, tuned=True)
    for element in (f32, bf16, f16):
        mirrored(weights, 4, 128, (4, 256), element, tuned=False)
    for bits, group, shape, element, zeros in (
        (4, 32, (8, 64), bf16, 0),
        (3, 128, (8, 200), bf16, 0),
        (8, 64, (8, 64), bf16, 0),
        (4, 32, (8, 64), f16, 0),
        (4, 32, (8, 64), f32, 16),
        (4, 32, (8, 64), bf16, 20),
        (2, 32, (8, 64), f32, 20),
    ):
        searched(weights, bits, group, shape, element, zeros)
    weights.write("int_more.json")

    inputs = Recorder(folder / "activation", 0)
    for name in ("int_sym", "int_asym"):
        for bits, group, element in ((8, -1, bf16), (8, -1, f32), (8, -1, f16), (4, -1, bf16), (4, 32, f32)):
            activation(inputs, name, bits, group, (8, 200), element)
    inputs.write("int.json")


if __name__ == "__main__":
    main()
