# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of families that nobody described: rounded weight by weight, loaded by compressed-tensors and auto-round."""

import pathlib
import tempfile
import unittest

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoRoundConfig
from transformers.utils import logging

import support

BLOCK = 128
TEXT = dict(vocab_size=96, hidden_size=160, intermediate_size=192, num_hidden_layers=2, num_attention_heads=5,
            num_key_value_heads=1, max_position_embeddings=64)
MOE = dict(TEXT, moe_intermediate_size=64, n_routed_experts=4, num_experts_per_tok=2, n_group=2, topk_group=1,
           first_k_dense_replace=1, q_lora_rank=64, kv_lora_rank=64, qk_rope_head_dim=32, qk_nope_head_dim=32,
           v_head_dim=32)
VISION = dict(depth=2, num_heads=2, hidden_size=32, intermediate_size=64, patch_size=4, out_hidden_size=160)
FP8_DYNAMIC = dict(data_type="fp8", bits=8, group_size=-1, sym=True, act_data_type="fp8", act_bits=8,
                   act_group_size=-1, act_sym=True, act_dynamic=True)


def setUpModule():
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def load_folder(folder):
    tensors = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def to_fp8_blocks(weight):
    """A weight as DeepSeek stores it, and what that means."""
    rows, cols = weight.shape
    padded = torch.zeros(-(-rows // BLOCK) * BLOCK, -(-cols // BLOCK) * BLOCK)
    padded[:rows, :cols] = weight.float()
    blocks = padded.view(padded.shape[0] // BLOCK, BLOCK, padded.shape[1] // BLOCK, BLOCK)
    scale = blocks.abs().amax((1, 3)) / 448
    codes = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
    meant = (codes.float() * scale[:, None, :, None]).reshape(padded.shape)[:rows, :cols]
    return codes.reshape(padded.shape)[:rows, :cols].contiguous(), scale, meant.contiguous()


def make_experts(folder):
    """A sharded mixture of experts in FP8 blocks, of a model_type that no one knows. Returns the linear weights."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("deepseek_v3", **MOE)).to(torch.bfloat16)
    model.save_pretrained(folder)
    tensors = load_folder(folder)
    (folder / "model.safetensors").unlink()
    stored, meant = {}, {}
    for name, tensor in tensors.items():
        if not name.endswith("_proj.weight") and "kv_a_proj_with_mqa.weight" not in name:
            stored[name] = tensor
            continue
        codes, scale, weight = to_fp8_blocks(torch.randn(tensor.shape) * 0.05)
        stored[name], stored[name + "_scale_inv"], meant[name] = codes, scale, weight
    names = sorted(stored)
    shards = {f"model-{i + 1:05}-of-00003.safetensors": names[i::3] for i in range(3)}
    for file, part in shards.items():
        save_file({name: stored[name] for name in part}, folder / file)
    support.write_json(folder / "model.safetensors.index.json",
                       {"weight_map": {name: file for file, part in shards.items() for name in part}})
    config = support.read_json(folder / "config.json")
    config["model_type"] = "nobody_moe"
    config["quantization_config"] = dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic",
                                         weight_block_size=[BLOCK, BLOCK])
    support.write_json(folder / "config.json", config)
    kept = {name: tensor for name, tensor in tensors.items() if name not in meant}
    return meant, kept


def rounded_int4(weight, group):
    """Symmetric: the larger end of a group's range is -8."""
    groups = weight.reshape(weight.shape[0], -1, group)
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    scale = torch.where(high >= -low, -high, -low) / 8
    scale = torch.where(scale == 0, torch.ones_like(scale), scale).half().float()
    return ((groups / scale).round().clamp(-8, 7) * scale).reshape(weight.shape)


class Experts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        (cls.folder / "model").mkdir()
        cls.meant, cls.kept = make_experts(cls.folder / "model")

    def export(self, scheme, format_id):
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        output = support.export(folder, model=str(self.folder / "model"), scheme=scheme, tuning={"iters": 0},
                                formats=[format_id, "fake"])
        report = support.read_json(output / "roundhouse" / "report.json")
        self.assertFalse([row["problems"] for row in report["models"] if row.get("problems")])
        fake = load_folder(output / "fake")
        self.assertEqual(fake.keys(), self.meant.keys() | self.kept.keys())
        for name, tensor in self.kept.items():
            self.assertTrue(torch.equal(fake[name], tensor), name)
        for name in self.meant:  # every one of them was rounded, and none beyond what so many bits allow
            error = (fake[name] - self.meant[name]).norm() / self.meant[name].norm()
            self.assertTrue(0.001 < error < 0.2, f"{name}: {error}")
        support.roundhouse("verify", "--deep", output / format_id)
        return output / format_id, fake

    def assert_decompresses(self, scheme, packing):
        folder, fake = self.export(scheme, "llm_compressor")
        quantization = support.read_json(folder / "config.json")["quantization_config"]
        self.assertEqual(quantization["format"], packing)
        self.assertEqual(set(quantization["ignore"]),
                         {name.removesuffix(".weight") for name, tensor in self.kept.items()
                          if tensor.dim() == 2 and name.endswith(".weight")})
        group = quantization["config_groups"]["group_0"]
        self.assertEqual(group["targets"], ["Linear"])
        made = QuantizationScheme(**group)
        compressor = BaseCompressor.get_value_from_registry(packing)
        stored = load_folder(folder)
        for name in self.meant:
            module = name.removesuffix("weight")
            state = {key[len(module):]: tensor for key, tensor in stored.items() if key.startswith(module)}
            theirs = compressor.decompress(state, made)["weight"]
            torch.testing.assert_close(theirs.float(), fake[name].float(), rtol=2**-7, atol=0, msg=name)

    def test_mxfp4(self):
        self.assert_decompresses("MXFP4", "mxfp4-pack-quantized")

    def test_nvfp4(self):
        self.assert_decompresses({"preset": "NVFP4", "act_bits": 16}, "nvfp4-pack-quantized")

    def test_fp8(self):
        self.assert_decompresses(FP8_DYNAMIC, "float-quantized")

    def test_w4a16(self):
        folder, fake = self.export({"preset": "W4A16", "group_size": 32}, "auto_round")
        for name, weight in self.meant.items():
            torch.testing.assert_close(fake[name], rounded_int4(weight, 32), rtol=1e-6, atol=1e-6, msg=name)
        # auto-round puts its own layers in place of linear ones; experts are one fused module in transformers.
        config = support.read_json(folder / "config.json")
        self.assertEqual(config["quantization_config"]["block_name_to_quantize"], "model.layers")
        config["model_type"] = "deepseek_v3"
        support.write_json(folder / "config.json", config)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=AutoRoundConfig())
        compared = 0
        for name, module in model.named_modules():
            if not hasattr(module, "qweight"):
                continue
            with torch.inference_mode():
                theirs = module(torch.eye(module.infeatures))
            torch.testing.assert_close(theirs.T, fake[name + ".weight"].float(), rtol=0, atol=2e-3, msg=name)
            compared += 1
        self.assertEqual(compared, len(self.meant))


class Vision(unittest.TestCase):
    """A vision model's folder: the tower as it is, the language part rounded, and tuned where it is described."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        torch.manual_seed(4)
        rope = dict(rope_type="default", rope_theta=700.0, mrope_section=[4, 6, 6])
        config = AutoConfig.for_model("qwen2_5_vl", text_config=TEXT | dict(vocab_size=2048, rope_parameters=rope), vision_config=VISION)  # with the tokenizer of the example model
        AutoModelForImageTextToText.from_config(config).to(torch.bfloat16).save_pretrained(cls.folder / "model")
        cls.source = load_folder(cls.folder / "model")
        for file in (support.EXAMPLES / "tinystories-656k").glob("tokenizer*"):
            (cls.folder / "model" / file.name).write_bytes(file.read_bytes())

    def export(self, scheme, format_id, **recipe):
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        output = support.export(folder, model=str(self.folder / "model"), scheme=scheme, formats=[format_id, "fake"],
                                **{"tuning": {"iters": 0}, **recipe})
        fake = load_folder(output / "fake")
        self.assertEqual(fake.keys(), self.source.keys())
        for name, tensor in self.source.items():
            same = torch.equal(tensor, fake[name])
            rounded = name.startswith("model.layers.") and "_proj.weight" in name
            self.assertEqual(same, not rounded, name)
        support.roundhouse("verify", "--deep", output / format_id)
        return output / format_id, fake

    def assert_loads(self, folder, fake, **loading):
        model, found = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.bfloat16, output_loading_info=True, **loading)
        self.assertFalse(found["missing_keys"])
        self.assertFalse(found["unexpected_keys"])
        self.assertFalse(found["mismatched_keys"])
        visual = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("model.visual.")}
        self.assertGreater(len(visual), 20)
        for name, tensor in visual.items():
            self.assertTrue(torch.equal(tensor, self.source[name.removeprefix("model.")]), name)
        return model

    def assert_decompresses(self, **recipe):
        folder, fake = self.export("MXFP4", "llm_compressor", **recipe)
        model = self.assert_loads(folder, fake)
        model.hf_quantizer.compressor.decompress_model(model)
        compared = 0
        for name, module in model.named_modules():
            if hasattr(module, "quantization_scheme"):
                stored = name.replace("model.language_model.", "model.") + ".weight"
                self.assertTrue(torch.equal(module.weight.to(torch.bfloat16), fake[stored]), name)
                compared += 1
        self.assertEqual(compared, 14)

    def test_generic_in_compressed_tensors(self):
        self.assert_decompresses(architecture="generic")

    def test_described_in_compressed_tensors(self):
        self.assert_decompresses()

    def test_tuned_in_auto_round(self):
        calibration = {"data": str(support.EXAMPLES / "texts" / "tinystories-calibration.jsonl"), "samples": 4,
                       "seqlen": 16, "batch_size": 2}
        folder, fake = self.export({"preset": "W4A16", "group_size": 32}, "auto_round", tuning={"iters": 2},
                                   calibration=calibration)
        quantization = support.read_json(folder / "config.json")["quantization_config"]
        self.assertEqual(quantization["block_name_to_quantize"], "model.layers,model.language_model.layers")
        model = self.assert_loads(folder, fake, quantization_config=AutoRoundConfig())
        self.assertEqual(sum(hasattr(module, "qweight") for module in model.modules()), 14)


class Told(unittest.TestCase):
    """What a plan says of it."""

    def test_a_recipe_that_tunes_is_told_both_ways_out(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "model").mkdir()
            make_experts(folder / "model")
            with self.assertRaisesRegex(AssertionError, "(?s)nobody_moe.*To add one.*set tuning.iters to 0"):
                support.export(folder, model=str(folder / "model"), scheme="W4A16", formats=["auto_round"])
            with self.assertRaisesRegex(AssertionError, "tuning.iters: the architecture generic rounds weights"):
                support.export(folder, model=str(folder / "model"), scheme="W4A16", formats=["auto_round"],
                               architecture="generic")
            with self.assertRaisesRegex(AssertionError, "(?s)calibrated range.*act_dynamic: true.*act_bits: 16"):
                support.export(folder, model=str(folder / "model"), scheme="NVFP4", formats=["llm_compressor"],
                               tuning={"iters": 0})


if __name__ == "__main__":
    unittest.main(verbosity=2)
