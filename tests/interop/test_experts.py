# SPDX-License-Identifier: Apache-2.0
"""A tiny mixture of experts, tuned: its exports in transformers and in the package gguf, an expert that no token reaches,
stacked experts, thread counts, and what is refused before the work."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest
import unittest.mock

import gguf
import numpy as np
import torch
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.utils.match import is_match
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoRoundConfig

import support

LOGIT_TOLERANCE = 1e-2
TOKENIZER = support.DATA / "models" / "tiny-llama"
EXPERTS, UNREACHED = 8, 5


def make_model(folder):
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        "qwen3_moe", vocab_size=512, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_experts=EXPERTS, num_experts_per_tok=2,
        norm_topk_prob=True, max_position_embeddings=256, bos_token_id=0, eos_token_id=1)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
        # Of a row and its opposite one is above 0, so two others always are above this one.
        for layer in model.model.layers:
            router = layer.mlp.gate.weight
            router[2], router[3] = -router[0], -router[1]
            router[UNREACHED] = 0
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder)


def stacked(tensors):
    """The experts' tensors as transformers 5 has them in memory."""
    tensors = dict(tensors)
    for prefix in ("model.layers.0.mlp.experts.", "model.layers.1.mlp.experts."):
        parts = {part: torch.stack([tensors.pop(f"{prefix}{i}.{part}.weight") for i in range(EXPERTS)])
                 for part in ("gate_proj", "up_proj", "down_proj")}
        tensors[prefix + "gate_up_proj"] = torch.cat([parts["gate_proj"], parts["up_proj"]], 1)
        tensors[prefix + "down_proj"] = parts["down_proj"]
    return tensors


class Experts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.model = cls.folder / "model"
        make_model(cls.model)
        cls.recipe = dict(
            scheme="W4A16", tuning={"iters": 3},
            calibration={"data": str(support.EXAMPLES / "texts" / "tinystories-calibration.jsonl"), "samples": 16,
                         "seqlen": 64, "batch_size": 8})
        cls.output = cls.export("tuned", formats=["auto_round", "llm_compressor"])

    @classmethod
    def export(cls, name, model=None, **changes):
        (cls.folder / name).mkdir()
        return support.export(cls.folder / name, model=str(model or cls.model), **cls.recipe | changes)

    def variant(self, name, edit):
        """The model with other tensors."""
        folder = self.folder / name
        shutil.copytree(self.model, folder)
        save_file(edit(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
        return folder

    def our_logits(self, model):
        (self.folder / "text.txt").write_text("Once upon a time there was a little girl named Lily.")
        support.roundhouse("logits", model, "--text", self.folder / "text.txt", "--out", self.folder / "logits")
        tensors = load_file(self.folder / "logits")
        return tensors["ids"].long(), tensors["logits"]

    def assert_transformers_agrees(self, model, **options):
        ids, ours = self.our_logits(model)
        theirs, loading = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, output_loading_info=True,
                                                               **options)
        self.assertFalse(loading["missing_keys"])
        self.assertFalse(loading["unexpected_keys"])
        with torch.inference_mode():
            difference = (theirs(ids[None]).logits[0] - ours).abs().max().item()
        self.assertLess(difference, LOGIT_TOLERANCE)

    def test_transformers_loads_the_exports(self):
        # In this order: auto-round patches the classes for good, and compressed-tensors finds its experts no more.
        self.assert_transformers_agrees(self.output / "llm_compressor")
        self.assert_transformers_agrees(self.output / "auto_round", quantization_config=AutoRoundConfig())

    def test_the_recipe_that_ships_can_be_planned(self):
        support.roundhouse("plan", support.SOURCE / "configs/recipes/experts.yaml", "--set", f"model={self.model}")

    def test_patterns_in_place_of_names_are_compressed_tensors_own(self):
        """Of layers that stay, and of those of each config group."""
        layers = [{"match": "re:.*experts.*gate_proj", "scheme": "none"}, {"match": "re:.*layers.1.*experts.*up_proj", "bits": 8}]
        output = self.export("patterns", layers=layers, tuning={"iters": 0}, formats=["llm_compressor"])
        config = QuantizationConfig.model_validate(support.read_json(output / "config.json")["quantization_config"])
        groups = [group.targets for group in config.config_groups.values()]
        for entries in (config.ignore, *groups):
            self.assertTrue([entry for entry in entries if entry.startswith("re:")])
            self.assertFalse([entry for entry in entries if ".experts.0." in entry])
        linear = torch.nn.Linear(1, 1)
        tensors = load_file(output / "model.safetensors")
        for module in {name.rsplit(".", 1)[0] for name in tensors}:
            bits = 8 if "layers.1" in module and "up_proj" in module else 4
            packed = tensors.get(module + ".weight_packed")
            expected = [] if packed is None else [group for group in config.config_groups.values() if group.weights.num_bits == bits]
            matching = [group for group in config.config_groups.values() if is_match(module, linear, group.targets)]
            self.assertEqual(matching, expected, module)
            if tensors.get(module + ".weight", torch.empty(0)).dim() == 2:
                self.assertTrue(is_match(module, linear, config.ignore), module)
            elif packed is not None:
                self.assertFalse(is_match(module, linear, config.ignore), module)

    def test_an_expert_without_tokens_is_told_and_rounded(self):
        block = support.read_json(self.output / "roundhouse" / "report.json")["blocks"][0]
        self.assertEqual(block["expert_tokens"][UNREACHED], 0)
        self.assertEqual(sum(block["expert_tokens"]), 2 * 16 * 64)
        self.assertEqual(block["experts_with_few_tokens"], sum(tokens < 32 for tokens in block["expert_tokens"]))
        name = f"model.layers.0.mlp.experts.{UNREACHED}.up_proj"
        packed = load_file(self.output / "auto_round" / "model.safetensors")
        self.assertTrue(torch.isfinite(packed[name + ".scales"]).all())
        self.assertGreater(packed[name + ".scales"].abs().min(), 0)

    def test_experts_that_calibration_does_not_reach_have_calibrated_ranges(self):
        output = self.export("static", scheme="FP8_STATIC", formats=["llm_compressor"])
        support.roundhouse("verify", output)
        tensors = load_file(output / "model.safetensors")
        scales = [tensors[f"model.layers.0.mlp.experts.{i}.up_proj.input_scale"].item() for i in range(EXPERTS)]
        self.assertEqual(scales[UNREACHED], max(scales))

    def test_all_experts_see_all_tokens_if_asked_to(self):
        calibration = self.recipe["calibration"] | {"all_experts": True}
        output = self.export("all", calibration=calibration, tuning={"iters": 0, "search": True},
                             imatrix={"save": str(self.folder / "importance.gguf")}, formats=["auto_round"])
        block = support.read_json(output / "roundhouse" / "report.json")["blocks"][0]
        self.assertEqual(block["expert_tokens"][UNREACHED], 0)
        squares = {tensor.name: tensor.data for tensor in gguf.GGUFReader(self.folder / "importance.gguf").tensors}
        np.testing.assert_array_equal(squares["blk.0.ffn_up_exps.weight.counts"].flatten(), [16 * 64] * EXPERTS)
        values = squares["blk.0.ffn_up_exps.weight.in_sum2"].reshape(EXPERTS, -1)
        for other in values[1:]:
            np.testing.assert_array_equal(other, values[0])

    def test_threads_and_storage_change_no_bit(self):
        expected = load_file(self.output / "auto_round" / "model.safetensors")
        for name, changes in (("one_thread", dict(threads=1)), ("two_threads", dict(threads=2)),
                              ("stacked_run", dict(model=self.variant("stacked", stacked)))):
            tensors = load_file(self.export(name, formats=["auto_round"], **changes) / "model.safetensors")
            self.assertEqual(support.tensor_difference(tensors, expected), "", name)

    def test_several_processes_change_no_bit(self):
        if not support.has_mpi():
            self.skipTest("the program was built without MPI, or its launcher does not work here")
        calibration = self.recipe["calibration"] | {"seqlen": 256, "concatenate": True, "batch_size": 16}
        for name, changes in (("tuned", dict(tuning={"iters": 2})), ("static", dict(scheme="FP8_STATIC")),
                              ("searched", dict(tuning={"iters": 0, "search": True}))):
            changes |= dict(calibration=calibration, formats=["llm_compressor"])
            alone = load_file(self.export(f"{name}_1", **changes) / "model.safetensors")
            with support.ranks(4):
                together = load_file(self.export(f"{name}_4", **changes) / "model.safetensors")
            self.assertEqual(support.tensor_difference(together, alone), "", name)

    def test_gguf_has_stacks(self):
        output = self.export("gguf", scheme="GGUF:Q4_K_M", formats=["gguf"])
        support.roundhouse("verify", output)
        file = next(output.glob("*.gguf"))
        reader = gguf.GGUFReader(file)
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.assertEqual(tensors["blk.0.ffn_gate_inp.weight"].tensor_type, gguf.GGMLQuantizationType.F32)
        for key, value in dict(expert_count=8, expert_used_count=2, expert_feed_forward_length=32).items():
            self.assertEqual(reader.fields[f"qwen3moe.{key}"].contents(), value)
        source = load_file(self.model / "model.safetensors")
        for part in ("gate", "up", "down"):
            stack = tensors[f"blk.0.ffn_{part}_exps.weight"]
            values = gguf.quants.dequantize(stack.data, stack.tensor_type)
            self.assertEqual(values.shape[0], EXPERTS)
            for i in range(EXPERTS):
                weight = source[f"model.layers.0.mlp.experts.{i}.{part}_proj.weight"].float().numpy()
                error = np.sqrt(np.mean((values[i] - weight) ** 2) / np.mean(weight**2))
                self.assertLess(error, 0.1, f"expert {i} of {part}")
        # The same file read back, expert by expert.
        _, ours = self.our_logits(output)
        self.assertTrue(torch.isfinite(ours).all())

    def refusal(self, model, *settings):
        recipe = self.folder / "refused.yaml"
        support.write_json(recipe, dict(version=1, model=str(model), output=str(self.folder / "nothing"),
                                        formats=["auto_round"], **self.recipe))
        command = [os.environ["ROUNDHOUSE"], "plan", str(recipe), *settings]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertNotEqual(result.returncode, 0, result.stdout)
        return result.stdout

    def test_what_is_refused(self):
        def without_an_expert(tensors):
            return {name: tensor for name, tensor in tensors.items() if ".experts.3.up_proj" not in name}

        text = self.refusal(self.variant("missing", without_an_expert))
        self.assertIn("has no tensor model.layers.0.mlp.experts.3.up_proj.weight", text)

        def transposed(tensors):
            return {name: tensor.transpose(1, 2).contiguous() if tensor.dim() == 3 else tensor
                    for name, tensor in stacked(tensors).items()}

        text = self.refusal(self.variant("transposed", transposed))
        # gate_up_proj, of 2 x 32 rows and 64 columns, is as large either way.
        self.assertIn("model.layers.0.mlp.experts.down_proj is [8, 32, 64], but config.json and the descriptor of qwen3_moe "
                      "say [8, 64, 32]: its matrices are stored the other way round", text)

        text = self.refusal(self.model, "--set", "formats=[gguf]", "--set", "scheme=GGUF:Q8_0", "--set",
                            "layers=[{match: model.layers.0.mlp.experts.3.up_proj, data_type: q4_0}]")
        self.assertIn("GGUF has all experts in one tensor, blk.0.ffn_up_exps.weight, of one type", text)

    def test_a_mix_gives_all_experts_of_a_stack_one_scheme(self):
        for name, presets, formats in (("mix", ["W2A16G32", "W4A16G32", "W8A16"], ["auto_round"]),
                                       ("mix_gguf", ["GGUF:Q4_0", "GGUF:Q5_0", "GGUF:Q8_0"], ["gguf"])):
            # 5 bits of codes and scales lie between the smallest and the largest of either.
            with unittest.mock.patch.dict(os.environ, XDG_CACHE_HOME=str(self.folder / "cache")):
                output = self.export(name, scheme={"mix": presets, "target": "5 bits"}, formats=formats)
            support.roundhouse("verify", "--deep", output)
            report = support.read_json(output / "roundhouse" / "report.json")
            mix = report["mix"]
            self.assertEqual(sum(scheme["layers"] for scheme in mix["schemes"]), 2 * (4 + 3 * EXPERTS))
            self.assertGreaterEqual(sum(scheme["layers"] > 0 for scheme in mix["schemes"]), 2)
            self.assertGreater(mix["loss"], 0)
            schemes = {}
            for layer in report["layers"]:
                if ".experts." in layer["name"]:
                    schemes.setdefault(re.sub(r"experts\.\d+", "experts", layer["name"]), set()).add(layer["scheme"])
            self.assertEqual(len(schemes), 2 * 3)
            for stack, of_stack in schemes.items():
                self.assertEqual(len(of_stack), 1, stack)
            _, logits = self.our_logits(output)
            self.assertTrue(torch.isfinite(logits).all())

    def test_mixed_presets_give_experts_fewer_bits(self):
        recipe = self.folder / "mixed.yaml"
        support.write_json(recipe, self.recipe | dict(version=1, model=str(self.model), output=str(self.folder / "nothing"),
                                                      scheme="W4A16_MIXED", formats=["auto_round"]))
        command = [os.environ["ROUNDHOUSE"], "plan", str(recipe), "--json"]
        plan = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        bits = {layer["name"]: layer["encoding"]["parameters"]["bits"] for layer in plan["layers"] if layer["quantized"]}
        self.assertEqual({name: 4 if ".experts." in name else 8 for name in bits}, bits)
        self.assertEqual(len(bits), 2 * (4 + 3 * EXPERTS))

    def test_a_router_is_a_layer_if_a_recipe_names_it(self):
        for match, quantized in (("model.layers.0.mlp.gate", True), (r"re:.*\.mlp\.gate", True), ("re:.*", False)):
            recipe = self.folder / "router.yaml"
            support.write_json(recipe, dict(version=1, model=str(self.model), output=str(self.folder / "nothing"),
                                            formats=["fake"], layers=[{"match": match, "bits": 8}], **self.recipe))
            result = subprocess.run([os.environ["ROUNDHOUSE"], "plan", str(recipe)], stdout=subprocess.PIPE, text=True)
            row = re.search(r"layers\.(0|\*)\.mlp\.gate .*", result.stdout).group()
            self.assertEqual("int W8" in row, quantized, row)


if __name__ == "__main__":
    unittest.main()
