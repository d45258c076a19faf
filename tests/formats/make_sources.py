# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/sources: small checkpoints in the forms that others publish, each with expected.safetensors, what their
own libraries make of it: compressed-tensors, transformers (fp8, mxfp4); for GPTQ, AWQ and ModelOpt the formulas of
their documentation, bit by bit.

    python3 tests/formats/make_sources.py
"""

import json
import pathlib

import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "data" / "sources"
Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.0.mlp.down_proj"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
PLAIN = {"model.layers.0.input_layernorm.weight": torch.arange(8).bfloat16(),
         "lm_head.weight": torch.arange(64).reshape(8, 8).bfloat16()}
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def write(name, quantization, layers, dtype="float32", left_out=None, files=None, key="quantization_config"):
    """layers: {layer: (its tensors, the weight that they stand for)}; left_out: tensors that no reader gives."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | {"dtype": dtype} | ({key: quantization} if quantization else {})
    for file, value in ({"config.json": config} | (files or {})).items():
        (folder / file).write_text(json.dumps(value, indent=1) + "\n")
    stored = PLAIN | (left_out or {})
    expected = dict(PLAIN)
    for layer, (tensors, weight) in layers.items():
        stored |= {f"{layer}.{part}": tensor.contiguous().clone() for part, tensor in tensors.items()}
        expected[f"{layer}.weight"] = weight.contiguous().clone()
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    save_file(expected, folder / "expected.safetensors")


# ---- fp8 ----

def fp8_codes(rows, cols):
    codes = torch.randint(0, 256, (rows, cols), dtype=torch.uint8)
    codes[codes & 0x7f == 0x7f] = 0  # NaN
    return codes.view(torch.float8_e4m3fn)


def fp8_layer(rows, cols, scale, block=None, name="weight_scale_inv", **more):
    weight = fp8_codes(rows, cols)
    value = scale.float()
    if block:
        expected = _dequantize_fp8_weight(weight, value, block, torch.float32)
    else:
        expected = weight.float() * (value.reshape(-1, 1) if value.numel() > 1 else value)
    return {"weight": weight, name: scale, **more}, expected


def make_fp8():
    write("fp8_block", {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [16, 32],
                        "modules_to_not_convert": ["lm_head"]},
          {Q: fp8_layer(40, 80, torch.rand(3, 3), [16, 32]), DOWN: fp8_layer(16, 32, torch.rand(1, 1).bfloat16(), [16, 32])},
          dtype="bfloat16")
    powers = torch.randint(100, 140, (2, 2), dtype=torch.uint8).view(torch.float8_e8m0fnu)
    bytes_ = torch.tensor([[0, 1], [127, 254]], dtype=torch.uint8)
    write("fp8_ue8m0", {"quant_method": "fp8", "activation_scheme": "dynamic", "scale_fmt": "ue8m0",
                        "weight_block_size": [16, 32]},
          {Q: fp8_layer(32, 64, powers, [16, 32]),
           DOWN: ((lambda made: ({**made[0], "weight_scale_inv": bytes_}, made[1]))(
               fp8_layer(32, 64, bytes_.view(torch.float8_e8m0fnu), [16, 32])))})
    one = torch.tensor(0.0125)
    write("fp8_static", {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None,
                         "dequantize": False, "modules_to_not_convert": ["lm_head"]},  # Ministral 3
          {Q: fp8_layer(16, 32, one.bfloat16(), activation_scale=torch.tensor(0.5).bfloat16()),
           DOWN: fp8_layer(8, 32, one, activation_scale=torch.tensor(0.25))}, dtype="bfloat16")
    cache = {"model.layers.0.self_attn.k_scale": torch.tensor(0.1), "model.layers.0.self_attn.v_scale": torch.tensor(0.2)}
    write("fp8_autofp8", {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"],
                          "kv_cache_scheme": "static"},
          {Q: fp8_layer(16, 32, one, name="weight_scale", input_scale=torch.tensor([0.5])),
           DOWN: fp8_layer(8, 32, one.reshape(1), name="weight_scale", input_scale=torch.tensor([0.25]))}, left_out=cache)
    write("fp8_fbgemm", {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]},
          {Q: fp8_layer(16, 32, torch.rand(16, 1), name="weight_scale", input_scale_ub=torch.tensor([1200.0])),
           DOWN: fp8_layer(8, 32, torch.rand(8).bfloat16(), name="weight_scale")})


# ---- GPTQ and AWQ ----

def stream(values, bits):
    """Words of 32 bits that hold the values' bits one after the other."""
    out = np.zeros((len(values) * bits + 31) // 32, dtype=np.uint64)
    for i, value in enumerate(values):
        for b in range(bits):
            bit = i * bits + b
            out[bit // 32] |= np.uint64((int(value) >> b & 1) << bit % 32)
    return out.astype(np.uint32).view(np.int32)


def gptq_layer(bits, rows=32, cols=64, group=32, sym=True, minus=1, permuted=False, scale=torch.float16, g_idx=True):
    generator = np.random.default_rng(bits + cols)
    groups = (cols + group - 1) // group
    codes = generator.integers(0, 2**bits, (rows, cols))
    zeros = np.full((groups, rows), 2**(bits - 1)) if sym else generator.integers(0, 2**bits, (groups, rows))
    scales = torch.from_numpy(generator.uniform(0.01, 0.02, (groups, rows))).to(scale)
    index = np.arange(cols) // group
    if permuted:
        index = generator.permutation(index)
    weight = scales.float().numpy()[index].T * (codes - zeros[index].T).astype(np.float32)
    tensors = {
        "qweight": torch.from_numpy(np.stack([stream(row, bits) for row in codes], 1)),
        "qzeros": torch.from_numpy(np.stack([stream((z - minus) % 2**bits, bits) for z in zeros])),
        "scales": scales,
    }
    if g_idx:
        tensors["g_idx"] = torch.from_numpy(index.astype(np.int32))
    return tensors, torch.from_numpy(weight)


def make_gptq():
    common = {"quant_method": "gptq", "group_size": 32, "damp_percent": 0.01, "true_sequential": True}
    write("gptq_desc_act", common | {"bits": 4, "desc_act": True, "sym": True, "static_groups": False},
          {Q: gptq_layer(4, permuted=True), DOWN: gptq_layer(4, cols=96, permuted=True)}, dtype="float16")
    write("gptq_desc_act_asym", common | {"bits": 8, "desc_act": True, "sym": False, "lm_head": True},
          {Q: gptq_layer(8, sym=False, permuted=True), "model.lm": gptq_layer(8, group=64, sym=False)})
    write("gptq_v2", common | {"bits": 2, "desc_act": False, "sym": False, "checkpoint_format": "gptq_v2"},
          {Q: gptq_layer(2, sym=False, minus=0), DOWN: gptq_layer(3, sym=False, minus=0, scale=torch.bfloat16)})
    write("gptq_old", None,
          {Q: gptq_layer(3, sym=False, g_idx=False), DOWN: gptq_layer(4, sym=False, permuted=True)},
          files={"quantize_config.json": {"bits": 4, "group_size": 32, "damp_percent": 0.1, "desc_act": True,
                                          "model_file_base_name": "model"}})


def awq_layer(rows=32, cols=64, group=32):
    generator = np.random.default_rng(rows)
    codes = generator.integers(0, 16, (rows, cols))
    zeros = generator.integers(0, 16, (rows, cols // group))
    scales = torch.from_numpy(generator.uniform(0.01, 0.02, (rows, cols // group))).half()
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    packed = lambda column: stream(column.reshape(-1, 8)[:, order].reshape(-1), 4)
    weight = np.repeat(scales.float().numpy(), group, 1) * (codes - np.repeat(zeros, group, 1)).astype(np.float32)
    return {"qweight": torch.from_numpy(np.stack([packed(c) for c in codes.T])),
            "qzeros": torch.from_numpy(np.stack([packed(z) for z in zeros.T])), "scales": scales.T}, torch.from_numpy(weight)


def make_awq():
    write("awq_old", None, {Q: awq_layer(), DOWN: awq_layer(64)},
          files={"quant_config.json": {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}})


# ---- compressed-tensors ----

def compressed(form, rows, cols, scale_dtype=torch.float32, zero_points=None, more=None, **arguments):
    arguments = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    compressor = BaseCompressor.get_value_from_registry(form)
    weight = torch.randn(rows, cols)
    strategy = str(getattr(arguments.strategy, "value", arguments.strategy))
    shape = {"tensor": (1,), "channel": (rows, 1)}.get(strategy) or (rows, cols // (arguments.group_size or cols))
    if strategy == "block":
        shape = ((rows + 15) // 16, (cols + 31) // 32)
    largest = 2**(arguments.num_bits - 1) - 1 if str(getattr(arguments.type, "value", arguments.type)) == "int" else {8: 448, 4: 6}[arguments.num_bits]
    state = {"weight": weight, "weight_scale": ((torch.rand(shape) + 0.5) * 3 / largest).to(scale_dtype)}
    if form == "nvfp4-pack-quantized":
        state["weight_global_scale"] = torch.tensor([100.0])
        state["weight_scale"] = (state["weight_scale"] * 100).to(torch.float8_e4m3fn).to(scale_dtype)
    if not arguments.symmetric:
        half = 2**(arguments.num_bits - 1)
        state["weight_zero_point"] = torch.randint(-half, half, shape, dtype=torch.int8)
    stored = compressor.compress(state, scheme)
    return stored | (more or {}), compressor.decompress(stored, scheme)["weight"]


def int_arguments(bits, strategy="group", group_size=32, symmetric=True):
    return {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": strategy,
            "group_size": group_size if strategy == "group" else None, "dynamic": False}


def float_arguments(strategy, bits=8, **more):
    return {"num_bits": bits, "type": "float", "symmetric": True, "strategy": strategy, "dynamic": False, **more}


def group(arguments, targets=("Linear",), inputs=None, **more):
    return {"targets": list(targets), "weights": arguments, "input_activations": inputs, "output_activations": None, **more}


def compressed_config(groups, form, **more):
    return {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed", "ignore": ["lm_head"],
            "config_groups": {f"group_{i}": g for i, g in enumerate(groups)}, **more}


def straddle_free(values, bits):
    """Codes as releases before 0.20 packed them: a word has as many as it holds whole."""
    each = 32 // bits
    padded = np.zeros((values.shape[0], -(-values.shape[1] // each) * each), dtype=np.uint64)
    padded[:, :values.shape[1]] = values
    shifts = np.arange(each, dtype=np.uint64) * np.uint64(bits)
    words = (padded.reshape(values.shape[0], -1, each) << shifts).sum(2)
    return torch.from_numpy(words.astype(np.uint32).view(np.int32))


def actorder(bits, rows=32, cols=64, size=32):
    """The dequantization of compressed-tensors before 0.20, which knew weight_g_idx: column c has group g_idx[c]."""
    codes = np.random.randint(0, 2**bits, (rows, cols))
    scales = torch.rand(rows, cols // size) + 0.5
    index = np.random.permutation(np.arange(cols) // size)
    weight = scales[:, index] * torch.from_numpy((codes - 2**(bits - 1)).astype(np.float32))
    return {"weight_packed": straddle_free(codes, bits), "weight_scale": scales, "weight_shape": torch.tensor([rows, cols]),
            "weight_g_idx": torch.from_numpy(index.astype(np.int32))}, weight


def make_compressed():
    w4, w4_asym, w8 = int_arguments(4), int_arguments(4, symmetric=False), int_arguments(8, "channel")
    write("ct_pack", compressed_config([group(w4)], "pack-quantized", kv_cache_scheme={"num_bits": 8, "type": "float"}),
          {Q: actorder(4), DOWN: actorder(3)},
          left_out={"model.layers.0.self_attn.k_scale": torch.ones(1), "model.layers.0.self_attn.v_scale": torch.ones(1)})
    # DOWN has 3 bits by its group's regular expression.
    config = json.loads((FOLDER / "ct_pack" / "config.json").read_text())
    config["quantization_config"]["config_groups"]["group_1"] = group(int_arguments(3), [r"re:.*\.mlp\.(gate|up|down)_proj$"])
    (FOLDER / "ct_pack" / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    write("ct_pack_asym", compressed_config([group(w4_asym), group(int_arguments(5, "channel", symmetric=False), [DOWN])],
                                            "pack-quantized"),
          {Q: compressed("pack-quantized", 32, 64, **w4_asym),
           DOWN: compressed("pack-quantized", 24, 40, torch.bfloat16, **int_arguments(5, "channel", symmetric=False))})

    token = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    int_tensor, naive = int_arguments(8, "tensor"), int_arguments(8, "channel", symmetric=False)
    quantized = {Q: compressed("int-quantized", 16, 32, **w8), DOWN: compressed("naive-quantized", 16, 32, **naive),
                 "model.layers.0.mlp.up_proj": compressed("int-quantized", 16, 32, **int_tensor)}
    write("ct_int", compressed_config([group(w8, inputs=token), group(naive, [DOWN], format="naive-quantized"),
                                       group(int_tensor, ["re:.*up_proj"])], "int-quantized"), quantized)
    write("ct_old", {"quantization_config": {k: v for k, v in compressed_config(
              [group(w8, inputs=token), group(naive, [DOWN]), group(int_tensor, ["re:.*up_proj"])], None).items() if v},
              "sparsity_config": {"format": "dense"}}, quantized, key="compression_config")

    tensor, channel = float_arguments("tensor"), float_arguments("channel")
    block = float_arguments("block", block_structure=[16, 32])
    fixed = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}
    write("ct_float", compressed_config([group(tensor, inputs=fixed), group(channel, [DOWN]),
                                         group(block | {"block_structure": "16x32"}, ["re:.*up_proj"])], "float-quantized"),
          {Q: compressed("float-quantized", 16, 32, more={"input_scale": torch.tensor([0.5])}, **tensor),
           DOWN: compressed("float-quantized", 16, 32, torch.bfloat16, **channel),
           "model.layers.0.mlp.up_proj": compressed("float-quantized", 20, 40, **block)}, dtype="bfloat16")
    write("ct_nvfp4", compressed_config([group(float_arguments("tensor_group", 4, group_size=16))], "nvfp4-pack-quantized"),
          {Q: compressed("nvfp4-pack-quantized", 16, 64, **float_arguments("tensor_group", 4, group_size=16))})
    write("ct_mxfp4", compressed_config([group(float_arguments("group", 4, group_size=32))], "mxfp4-pack-quantized"),
          {Q: compressed("mxfp4-pack-quantized", 16, 64, **float_arguments("group", 4, group_size=32))})


# ---- ModelOpt and mxfp4 ----

def modelopt_nvfp4(rows, cols):
    packed = torch.randint(0, 256, (rows, cols // 2), dtype=torch.uint8)
    scale = (torch.rand(rows, cols // 16) * 400).to(torch.float8_e4m3fn)
    second = torch.rand(()) / 100
    codes = torch.stack([packed & 15, packed >> 4], -1).reshape(rows, cols)
    weight = FP4[codes.long()] * (scale.float() * second).repeat_interleave(16, 1)
    return {"weight": packed, "weight_scale": scale, "weight_scale_2": second, "input_scale": torch.tensor(0.01)}, weight


def make_modelopt():
    scales = {"model.layers.0.self_attn.k_proj.k_scale": torch.tensor(0.1),
              "model.layers.0.self_attn.v_proj.v_scale": torch.tensor(0.2)}
    one = torch.tensor(0.0125)
    write("modelopt_fp8", None, {Q: fp8_layer(16, 32, one, name="weight_scale", input_scale=torch.tensor(0.5)),
                                 DOWN: fp8_layer(16, 32, torch.rand(16), name="weight_scale")}, dtype="bfloat16", left_out=scales,
          files={"hf_quant_config.json": {"producer": {"name": "modelopt", "version": "0.29.0"},
                                          "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8",
                                                           "exclude_modules": ["lm_head", "model.layers.1*"]}}})
    block = fp8_layer(130, 140, torch.rand(2, 2), [128, 128], "weight_scale")
    block[0]["weight_scale"] = block[0]["weight_scale"].reshape(2, 1, 2, 1)
    powers = torch.randint(110, 130, (16, 2), dtype=torch.uint8)
    mxfp8 = fp8_codes(16, 64)
    write("modelopt_nvfp4", {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "ignore": ["lm_head"]},
          {Q: modelopt_nvfp4(16, 64), DOWN: block,
           "model.layers.0.mlp.up_proj": ({"weight": mxfp8, "weight_scale": powers},
                                          mxfp8.float() * torch.exp2(powers.float() - 127).repeat_interleave(32, 1))},
          dtype="bfloat16")


def make_mxfp4():
    blocks = torch.randint(0, 256, (3, 8, 2, 16), dtype=torch.uint8)
    scales = torch.randint(110, 130, (3, 8, 2), dtype=torch.uint8)
    dense = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).transpose(1, 2)
    stack, expert = "model.layers.0.mlp.experts", {"gate_up_proj_bias": torch.rand(3, 8).bfloat16()}
    write("mxfp4", {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, {})
    folder = FOLDER / "mxfp4"
    bias = {f"{stack}.{name}": tensor for name, tensor in expert.items()}
    save_file(PLAIN | bias | {f"{stack}.gate_up_proj_blocks": blocks, f"{stack}.gate_up_proj_scales": scales},
              folder / "model.safetensors", {"format": "pt"})
    save_file(PLAIN | bias | {f"{stack}.{i}.gate_up_proj.weight": dense[i].contiguous() for i in range(3)},
              folder / "expected.safetensors")


def make_fp8_experts():
    """As transformers' FP8Experts saves stacks, one scale an expert and in blocks; what quantizes is said in text_config."""
    stack, block = "model.layers.0.mlp.experts", [16, 32]
    weights = {"gate_up_proj": (fp8_codes(6, 24).reshape(2, 3, 24), torch.rand(2, 1, 1)),
               "down_proj": (fp8_codes(40, 64).reshape(2, 20, 64), torch.rand(2, 2, 2))}
    stored, expected = {}, {}
    for name, (codes, scale) in weights.items():
        stored |= {f"{stack}.{name}": codes, f"{stack}.{name}_scale_inv": scale}
        for i in range(2):
            expected[f"{stack}.{i}.{name}.weight"] = (codes[i].float() * scale[i] if scale[i].numel() == 1
                                                      else _dequantize_fp8_weight(codes[i], scale[i], block, torch.float32))
    quantization = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": block}
    write("fp8_experts", {"quantization_config": quantization}, {}, key="text_config")
    save_file(PLAIN | stored, FOLDER / "fp8_experts/model.safetensors", {"format": "pt"})
    save_file(PLAIN | expected, FOLDER / "fp8_experts/expected.safetensors")


if __name__ == "__main__":
    torch.manual_seed(1)
    np.random.seed(1)
    for make in (make_fp8, make_gptq, make_awq, make_compressed, make_modelopt, make_mxfp4, make_fp8_experts):
        make()
