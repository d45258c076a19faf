# SPDX-License-Identifier: Apache-2.0
"""transformers loads exports of the format llm_compressor through compressed-tensors, and decompresses our weights."""

import pathlib
import tempfile
import unittest

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

import support

MODEL = str(support.DATA / "models" / "tiny-llama")
EXPORTS = support.DATA / "exports"
LAYERS = ("model.layers.0.self_attn.k_proj", "model.layers.0.mlp.down_proj")


def weights_only(preset):
    return {"preset": preset, "act_bits": 16}


def layer(tensors, name):
    return {key[len(name) + 1:]: tensor for key, tensor in tensors.items() if key.startswith(name + ".")}


class Exported(unittest.TestCase):
    """One export a test, by plain rounding."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def export(self, scheme, **recipe):
        output = support.export(self.folder, model=MODEL, scheme=scheme, tuning={"iters": 0},
                                formats=["llm_compressor", "fake"], **recipe)
        return output / "llm_compressor", load_file(output / "fake" / "model.safetensors")


class Decompressed(Exported):
    def assert_same_weights(self, scheme, packing, tolerance=0, **recipe):
        """The clients' weights are those of the format `fake`, bit for bit, once in its bfloat16.

        `tolerance`: relative difference that is allowed instead."""
        folder, fake = self.export(scheme, **recipe)
        config = support.read_json(folder / "config.json")["quantization_config"]
        self.assertEqual(config["format"], packing)
        model, loading = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        self.assertFalse(loading["missing_keys"], "transformers made these up")
        self.assertFalse(loading["unexpected_keys"], "transformers does not read these")
        model.hf_quantizer.compressor.decompress_model(model)
        linears = {name + ".weight": module for name, module in model.named_modules()
                   if isinstance(module, torch.nn.Linear)}
        quantized = {name for name, module in linears.items() if hasattr(module, "quantization_scheme")}
        self.assertEqual({name.removesuffix(".weight") for name in linears.keys() - quantized},
                         set(config["ignore"]) - {"model.embed_tokens"})
        self.assertGreaterEqual(len(quantized), 14)
        if tolerance:
            for name, module in linears.items():
                torch.testing.assert_close(fake[name].float(), module.weight.float(), rtol=tolerance, atol=0)
            return
        theirs = {name: module.weight.detach().to(torch.bfloat16) for name, module in linears.items()}
        difference = support.tensor_difference({name: fake[name] for name in theirs}, theirs)
        self.assertEqual(difference, "", f"\n{scheme}:\n{difference}")

    def test_w4a16(self):
        self.assert_same_weights("W4A16", "pack-quantized")

    def test_w5a16_asymmetric(self):
        # compressed-tensors 0.20 forgets that zero points are packed when it makes the modules to load into, so that
        # asymmetric weights load only where they are dequantized at once.
        folder, fake = self.export({"preset": "W5A16", "sym": False})
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, quantization_config=CompressedTensorsConfig(dequantize=True))
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):  # rounded to the scales' float16 in between
                torch.testing.assert_close(fake[name + ".weight"].float(), module.weight.float(), rtol=2**-7, atol=0)

    def test_int8(self):
        self.assert_same_weights({"data_type": "int", "bits": 8, "group_size": -1, "sym": True}, "pack-quantized")

    def test_fp8_of_the_tensor(self):
        self.assert_same_weights("FPW8A16", "float-quantized")

    def test_fp8_of_rows(self):
        self.assert_same_weights(weights_only("FP8_DYNAMIC"), "float-quantized")

    def test_fp8_of_blocks(self):
        self.assert_same_weights(weights_only("FP8_BLOCK"), "float-quantized")

    def test_mxfp4(self):
        self.assert_same_weights("MXFP4A16", "mxfp4-pack-quantized")

    def test_mxfp6(self):
        self.assert_same_weights(weights_only("MXFP6"), "mxfp6-pack-quantized")

    def test_mxfp8(self):
        self.assert_same_weights(weights_only("MXFP8"), "mxfp8-quantized")

    def test_nvfp4(self):
        # They divide the groups' scales by the global one in bfloat16.
        self.assert_same_weights("NVFP4A16", "nvfp4-pack-quantized", tolerance=2**-7)

    def test_mixed(self):
        self.assert_same_weights("W4A16", "mixed-precision", layers=[
            {"match": r"re:.*\.mlp\.down_proj", "scheme": weights_only("MXFP8")},
            {"match": "model.layers.1.self_attn.k_proj", "scheme": "none"},
            {"match": "lm_head", "scheme": "W8A16"}])


class QuantizedInputs(unittest.TestCase):
    """compressed-tensors rounds inputs as the checkpoint says, and so does `roundhouse logits`."""

    def assert_same_predictions(self, scheme, divergence):
        """divergence: allowed, mean nats a token"""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            output = support.export(
                folder, model=str(support.EXAMPLES / "tinystories-656k"), scheme=scheme, tuning={"iters": 0},
                calibration={"data": str(support.EXAMPLES / "texts" / "tinystories-calibration.jsonl"), "samples": 16,
                             "seqlen": 64}, formats=["llm_compressor"])
            (folder / "text.txt").write_text("One day, the ball rolled into the lake, and a kind old frog brought it back.")
            support.roundhouse("logits", output, "--text", folder / "text.txt", "--out", folder / "logits.safetensors")
            ours = load_file(folder / "logits.safetensors")
            model = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32)
        with torch.inference_mode():
            theirs = model(ours["ids"].long()[None]).logits[0].double().log_softmax(-1)
        mine = ours["logits"].double().log_softmax(-1)
        self.assertLess((mine.exp() * (mine - theirs)).sum(-1).mean().item(), divergence)

    def test_fp8_with_a_calibrated_range(self):
        self.assert_same_predictions("FP8_STATIC", 1e-6)

    def test_fp8_with_a_range_for_each_group(self):
        self.assert_same_predictions("FP8_BLOCK", 3e-4)

    def test_int8_with_a_range_for_each_token(self):
        # Their scale of a token is another: its largest magnitude / 127.5.
        self.assert_same_predictions("INT8", 5e-3)


class PlainRounding(Exported):
    """The codes and scales of the reference's own exports that need no calibration."""

    def assert_layers(self, scheme, reference, convert=lambda tensors: tensors):
        folder, _ = self.export(scheme)
        ours, expected = load_file(folder / "model.safetensors"), load_file(EXPORTS / reference / "model.safetensors")
        for name in LAYERS:
            theirs = {key: tensor for key, tensor in layer(expected, name).items() if key.startswith("weight")}
            difference = support.tensor_difference(convert(layer(ours, name)), theirs)
            self.assertEqual(difference, "", f"\n{name}:\n{difference}")

    @staticmethod
    def bfloat16_scales(tensors):
        # The reference rounds the scale after it chose the codes with it; ours are float32.
        return {**tensors, "weight_scale": tensors["weight_scale"].to(torch.bfloat16)}

    def test_fp8_static(self):
        self.assert_layers(weights_only("FP8_STATIC"), "fp8_static_llmc", self.bfloat16_scales)

    def test_fp8_block(self):
        self.assert_layers(weights_only("FP8_BLOCK"), "fp8_block_llmc", self.bfloat16_scales)

    def test_int8(self):
        def one_code_a_byte(tensors):
            codes = tensors["weight_packed"].view(torch.uint8).to(torch.int16) - 128
            return {"weight": codes.to(torch.int8), "weight_scale": tensors["weight_scale"]}
        self.assert_layers({"data_type": "int", "bits": 8, "group_size": -1, "sym": True}, "int8_llmc", one_code_a_byte)


if __name__ == "__main__":
    unittest.main(verbosity=2)
