# SPDX-License-Identifier: Apache-2.0
"""GGUF files as other programs see them: the reference's metadata, and the same weights by the package gguf and
transformers."""

import pathlib
import shutil
import struct
import tempfile
import unittest

import gguf
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import support

MODEL = support.DATA / "models" / "tiny-llama"
REFERENCE = support.DATA / "exports" / "gguf_q4_k_m" / "tiny-llama-spm-1.4M-Q4_K_M.gguf"
PRESETS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K"]
HEADS = {"attn_q": 4, "attn_k": 2}
# Both sides compute in float32, in another order.
LOGIT_TOLERANCE = 1e-3


def metadata(file):
    fields = gguf.GGUFReader(file).fields.values()
    return {field.name: ([t.name for t in field.types], field.contents()) for field in fields
            if not field.name.startswith("GGUF.")}


def weights(file, names):
    """The dequantized tensors, rows in the checkpoint's order, under the names that `names` has for gguf's."""
    result = {}
    for tensor in gguf.GGUFReader(file).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        layer, kind = tensor.name.rsplit(".", 1)
        if heads := HEADS.get(layer.split(".")[-1]):
            pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, -1)
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        result[f"{names[layer]}.{kind}"] = torch.from_numpy(np.ascontiguousarray(values))
    return result


def source_names(blocks):
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    parts = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    for block in range(blocks):
        for ours, theirs in parts.items():
            names[f"blk.{block}.{ours}"] = f"model.layers.{block}.{theirs}"
    return names


class Gguf(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def export(self, model, preset, formats=("gguf",)):
        out = support.export(self.folder, model=str(model), scheme=f"GGUF:{preset}", tuning={"iters": 0},
                             formats=list(formats))
        folder = out if len(formats) == 1 else out / "gguf"
        (file,) = folder.glob("*.gguf")
        self.assertEqual(file.name, f"{model.name}-{preset}.gguf")
        return file

    def spm_model(self):
        """The model that the reference exported, which reads tokenizer.model even beside another tokenizer.json."""
        model = self.folder / "tiny-llama-spm"
        shutil.copytree(MODEL, model)
        (model / "tokenizer.json").unlink()
        shutil.copy(support.DATA / "models" / "tiny-llama-spm" / "tokenizer.model", model)
        return model

    def test_metadata_are_the_references(self):
        ours = metadata(self.export(self.spm_model(), "Q4_K_M"))
        # The reference has these ids from the tokenizer.json that was beside it; the pieces have others.
        ids = {f"tokenizer.ggml.{role}_token_id": (["UINT32"], id)
               for role, id in (("bos", 1), ("eos", 2), ("unknown", 0))}
        for key, value in (metadata(REFERENCE) | ids).items():
            self.assertEqual(ours.get(key), value, key)

    def test_types_are_the_references(self):
        ours = {t.name: t.tensor_type for t in gguf.GGUFReader(self.export(self.spm_model(), "Q4_K_M")).tensors}
        self.assertEqual(set(ours), {f"{name}.weight" for name in source_names(2)})
        for tensor in gguf.GGUFReader(REFERENCE).tensors:
            self.assertEqual(ours[tensor.name], tensor.tensor_type, tensor.name)

    def test_weights_are_those_of_every_other_format(self):
        for preset in PRESETS:
            with self.subTest(preset), tempfile.TemporaryDirectory() as folder:
                self.folder = pathlib.Path(folder)
                file = self.export(MODEL, preset, ["gguf", "fake"])
                fake = load_file(file.parents[1] / "fake" / "model.safetensors")
                theirs = {name: tensor.bfloat16() for name, tensor in weights(file, source_names(2)).items()}
                difference = support.tensor_difference(theirs, fake)
                self.assertEqual(difference, "", f"\n{difference}")

    def test_byte_level_tokenizer(self):
        ours = metadata(self.export(MODEL, "Q8_0"))
        tokenizer = support.read_json(MODEL / "tokenizer.json")
        vocabulary = tokenizer["model"]["vocab"] | {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
        self.assertEqual(ours["tokenizer.ggml.model"][1], "gpt2")
        self.assertEqual(ours["tokenizer.ggml.pre"][1], "gpt-2")
        self.assertEqual(ours["tokenizer.ggml.tokens"][1], sorted(vocabulary, key=vocabulary.get))
        merges = [" ".join(m) if isinstance(m, list) else m for m in tokenizer["model"]["merges"]]
        self.assertEqual(ours["tokenizer.ggml.merges"][1], merges)
        self.assertEqual(ours["tokenizer.ggml.token_type"][1][:4], [3, 3, 3, 1])
        self.assertEqual(ours["tokenizer.ggml.add_bos_token"][1], False)

    def test_converted_sentencepiece_tokenizer(self):
        model = support.EXAMPLES / "tinystories-656k"
        ours = metadata(self.export(model, "Q8_0"))
        tokenizer = support.read_json(model / "tokenizer.json")["model"]
        tokens = ours["tokenizer.ggml.tokens"][1]
        self.assertEqual(ours["tokenizer.ggml.model"][1], "llama")
        self.assertEqual(tokens, sorted(tokenizer["vocab"], key=tokenizer["vocab"].get))
        scores = dict(zip(tokens, ours["tokenizer.ggml.scores"][1]))
        merged = ["".join(m) if isinstance(m, list) else m.replace(" ", "", 1) for m in tokenizer["merges"]]
        self.assertEqual(sorted(set(merged), key=lambda token: -scores[token]), list(dict.fromkeys(merged)))
        self.assertEqual(ours["tokenizer.ggml.token_type"][1][:4], [2, 3, 3, 1])
        self.assertEqual(ours["tokenizer.ggml.bos_token_id"][1], 1)
        self.assertEqual(ours["tokenizer.ggml.add_bos_token"][1], True)
        self.assertEqual(ours["tokenizer.ggml.add_space_prefix"][1], True)

    def changed_model(self, **changes):
        """tiny-llama with a changed config.json."""
        model = self.folder / "changed"
        shutil.copytree(MODEL, model)
        support.write_json(model / "config.json", support.read_json(model / "config.json") | changes)
        return model

    def test_unigram_tokenizer(self):
        model = self.changed_model()
        pieces = [["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0], ["<0x41>", -1.5], ["\u2581", -2.0], ["\u2581once", -3.25]]
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        tokenizer = {"version": "1.0", "normalizer": {"type": "Prepend", "prepend": "\u2581"},
                     "added_tokens": [{"id": 1, "content": "<s>", **flags}, {"id": 2, "content": "</s>", **flags}],
                     "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces}}
        support.write_json(model / "tokenizer.json", tokenizer)
        ours = metadata(self.export(model, "Q8_0"))
        self.assertEqual(ours["tokenizer.ggml.model"][1], "llama")
        self.assertEqual(ours["tokenizer.ggml.tokens"][1][:6], [text for text, _ in pieces])
        self.assertEqual(ours["tokenizer.ggml.scores"][1][3:6], [-1.5, -2.0, -3.25])
        types = gguf.TokenType
        self.assertEqual(ours["tokenizer.ggml.token_type"][1][:7],
                         [types.UNKNOWN, types.CONTROL, types.CONTROL, types.BYTE, types.NORMAL, types.NORMAL, types.UNUSED])
        self.assertEqual(ours["tokenizer.ggml.add_space_prefix"][1], True)

    def test_sliding_windows(self):
        self.assertNotIn("llama.attention.sliding_window", metadata(self.export(MODEL, "Q8_0")))
        shutil.rmtree(self.folder / "out")
        every = metadata(self.export(self.changed_model(model_type="mistral", sliding_window=16), "Q8_0"))
        self.assertEqual(every["llama.attention.sliding_window"], (["UINT32"], 16))
        self.assertNotIn("llama.attention.sliding_window_pattern", every)

    def test_split_files(self):
        out = support.export(self.folder, model=str(MODEL), scheme="GGUF:Q4_K_M", tuning={"iters": 0},
                             formats=[{"id": "gguf", "split": True}, "fake"], max_shard_size="400KB")
        files = sorted((out / "gguf").glob("*.gguf"))
        names = [f"tiny-llama-Q4_K_M-{i + 1:05}-of-{len(files):05}.gguf" for i in range(len(files))]
        self.assertEqual([file.name for file in files], names)
        self.assertGreater(len(files), 2)
        all_tensors = sum(len(gguf.GGUFReader(file).tensors) for file in files)
        theirs = {}
        for i, file in enumerate(files):
            facts = metadata(file)
            self.assertEqual(facts["split.no"], (["UINT16"], i))
            self.assertEqual(facts["split.count"], (["UINT16"], len(files)))
            self.assertEqual(facts["split.tensors.count"], (["INT32"], all_tensors))
            self.assertEqual("general.architecture" in facts, i == 0)
            theirs |= {name: tensor.bfloat16() for name, tensor in weights(file, source_names(2)).items()}
        fake = {}
        for file in (out / "fake").glob("*.safetensors"):
            fake |= load_file(file)
        self.assertEqual(support.tensor_difference(theirs, fake), "")

    def source(self, file):
        """The file alone, where nothing stands beside it."""
        folder = self.folder / "downloaded"
        folder.mkdir(exist_ok=True)
        return pathlib.Path(shutil.copy(file, folder))

    def run_from(self, model, **recipe):
        """The output folder of a recipe that starts from a GGUF file, with the weights as they are."""
        folder = self.folder / "from"
        folder.mkdir()
        return support.export(folder, model=str(model), scheme={"bits": 16}, formats=["fake"], **recipe)

    def test_a_file_is_a_model_with_the_weights_config_and_tokenizer_of_its_source(self):
        for model in (MODEL, support.EXAMPLES / "tinystories-656k"):
            with self.subTest(model.name), tempfile.TemporaryDirectory() as folder:
                self.folder = pathlib.Path(folder)
                out = support.export(self.folder, model=str(model), scheme={"bits": 16}, formats=[{"id": "gguf", "file_type": "BF16"}])
                (file,) = out.glob("*.gguf")
                fake = self.run_from(self.source(file))
                theirs = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
                again = AutoModelForCausalLM.from_pretrained(fake, dtype=torch.float32)
                self.assertEqual(support.tensor_difference(again.state_dict(), theirs.state_dict()), "")
                text = "Once upon a time, Lily had 12 red balls.\nShe didn't  share them!"
                ids = AutoTokenizer.from_pretrained(model)(text).input_ids
                self.assertEqual(AutoTokenizer.from_pretrained(fake)(text).input_ids, ids)
                with torch.inference_mode():
                    logits = [m(torch.tensor([ids])).logits for m in (theirs, again)]
                self.assertTrue(torch.equal(*logits))

    def test_a_quantized_file_is_a_model_with_the_weights_of_the_package_gguf(self):
        file = self.source(self.export(MODEL, "Q4_K_M"))
        ours = load_file(self.run_from(file.parent) / "model.safetensors")  # a folder with nothing else
        theirs = {name: tensor.to(ours[name].dtype) for name, tensor in weights(file, source_names(2)).items()}
        self.assertEqual(support.tensor_difference(ours, theirs), "")

    def test_the_tokenizer_may_be_another_folders(self):
        out = support.export(self.folder, model=str(MODEL), scheme={"bits": 16}, formats=[{"id": "gguf", "file_type": "BF16"}])
        (file,) = out.glob("*.gguf")
        other = support.EXAMPLES / "tinystories-656k"
        fake = self.run_from(self.source(file), tokenizer=str(other))
        self.assertEqual((fake / "tokenizer.json").read_bytes(), (other / "tokenizer.json").read_bytes())

    def test_other_architectures_are_refused_by_name(self):
        file = self.folder / "gemma3n.gguf"
        writer = gguf.GGUFWriter(file, "gemma3n")
        writer.add_tensor("token_embd.weight", np.zeros((8, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with self.assertRaisesRegex(AssertionError, "llama.cpp's gemma3n is not turned into a config.json"):
            self.run_from(file)

    def test_heads_that_are_rotated_in_part_are_refused_by_name(self):
        exported = self.export(MODEL, "Q8_0")
        (self.folder / "alone").mkdir()
        file = exported.rename(self.folder / "alone" / "alone.gguf")
        field = gguf.GGUFReader(file, "r+").fields["llama.rope.dimension_count"]
        field.parts[field.data[0]][0] = 32
        refusal = r"alone.gguf: llama.rope.dimension_count is 32 and a head has 64 features, .*: take the model's own folder"
        with self.assertRaisesRegex(AssertionError, refusal):
            self.run_from(file)
        with self.assertRaisesRegex(AssertionError, refusal):
            support.roundhouse("logits", file, "--ids", "1,2", "--out", self.folder / "logits")
        with self.assertRaisesRegex(AssertionError, refusal):
            support.roundhouse("convert", file, "--format", "gguf", "--output", self.folder / "converted")

    def test_messages_name_the_file(self):
        exported = self.export(MODEL, "Q8_0")
        (self.folder / "alone").mkdir()
        file = exported.rename(self.folder / "alone" / "alone.gguf")
        data = file.read_bytes()
        kind = b"tokenizer.ggml.model" + struct.pack("<IQ", 8, 4)  # a text of four bytes
        self.assertEqual(data.count(kind + b"gpt2"), 1)
        file.write_bytes(data.replace(kind + b"gpt2", kind + b"none"))
        with self.assertRaisesRegex(AssertionError, "alone/alone.gguf: there is no tokenizer: none of"):
            support.roundhouse("tokenize", "--model", file, "--text", __file__)

    def test_transformers_computes_our_logits(self):
        file = self.export(MODEL, "Q5_K_M")
        text = self.folder / "text.txt"
        text.write_text("Once upon a time there was a little girl named Lily, who loved to play with her ball.")
        out = self.folder / "logits.safetensors"
        support.roundhouse("logits", file.parent, "--text", text, "--out", out)
        ours = load_file(out)
        self.assertGreater(len(ours["ids"]), 20)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        with torch.inference_mode():
            theirs = model(ours["ids"].long()[None]).logits[0]
        self.assertLess((ours["logits"] - theirs).abs().max().item(), LOGIT_TOLERANCE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
