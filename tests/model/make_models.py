# SPDX-License-Identifier: Apache-2.0
"""Makes tiny random models of every family with transformers, and what transformers computes with them.

Usage: make_models.py OUT. For each case, OUT/CASE/ is a model folder, and OUT/CASE/reference/ holds model.safetensors
(ids, logits in float32, bf16_logits of the model run in bfloat16, and what its last norm got and gave then: norm_input,
norm_output) and reference.json (sequences, perplexity).
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.llama import modeling_llama
from transformers.utils import logging

import dense_cases
import expert_models
import hybrid_cases

VOCAB = 97
SEQLEN = 24

LLAMA = dict(vocab_size=VOCAB, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=2, max_position_embeddings=64)
OPT = dict(vocab_size=VOCAB, hidden_size=48, ffn_dim=80, num_hidden_layers=2, num_attention_heads=6,
           max_position_embeddings=64)
LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=32)
YARN_ROPE = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16)


def transformers4(theta, scaling):
    """The config.json that transformers 4 wrote: rope_theta and rope_scaling beside each other."""

    def edit(config):
        config.pop("rope_parameters", None)
        config.update(rope_theta=theta, rope_scaling=scaling)

    return edit


def without(*keys):
    def edit(config):
        for key in keys:
            del config[key]

    return edit


def multimodal(text, **vision):
    """A text of Llama's sizes, and a vision tower as small as may be."""
    vision = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, patch_size=4,
                  image_size=16) | vision
    return dict(text_config=LLAMA | text, vision_config=vision, tie_word_embeddings=False)


MROPE = dict(rope_type="default", rope_theta=700.0, mrope_section=[1, 1, 2])


def flat(config):
    """As config.json was before text_config: its keys beside the others, and rope_scaling by its old name."""
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    config.update({key: value for key, value in text.items() if key not in ("model_type", "dtype")})
    config.update(rope_theta=rope["rope_theta"], rope_scaling=dict(type="mrope", mrope_section=rope["mrope_section"]))


def tied_by_text(config):
    """As transformers 4 saved it, and without what transformers has defaults for."""
    config["tie_word_embeddings"] = False
    text = config["text_config"]
    text["tie_word_embeddings"] = True
    for key in ("num_key_value_heads", "rms_norm_eps", "max_window_layers", "layer_types"):
        del text[key]


# name: (model_type, config, edit of config.json or None)
CASES = {
    "llama": ("llama", LLAMA, None),
    "llama_tied_biased": ("llama", LLAMA | dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True), None),
    "llama_head_dim": ("llama", LLAMA | dict(head_dim=16, num_key_value_heads=6), None),
    "llama_head_only": ("llama", LLAMA | dict(tie_word_embeddings=True), None),
    "llama_plain_4": ("llama", LLAMA, transformers4(700.0, None)),
    "llama_linear": ("llama", LLAMA | dict(rope_parameters=dict(rope_type="linear", rope_theta=300.0, factor=4.0)),
                     None),
    "llama_linear_4": ("llama", LLAMA, transformers4(300.0, dict(type="linear", factor=2.5))),
    "llama_factor_alone": ("llama", LLAMA, transformers4(300.0, dict(factor=2.5))),
    "llama_llama3": ("llama", LLAMA | dict(rope_parameters=LLAMA3_ROPE), None),
    "llama_llama3_4": ("llama", LLAMA, transformers4(500.0, {k: v for k, v in LLAMA3_ROPE.items()
                                                             if k != "rope_theta"})),
    "llama_yarn": ("llama", LLAMA | dict(rope_parameters=YARN_ROPE), None),
    "qwen3_yarn_4": ("qwen3", LLAMA | dict(head_dim=16),
                     transformers4(500.0, dict(type="yarn", factor=4.0, original_max_position_embeddings=16,
                                               mscale=1.0, mscale_all_dim=0.5, truncate=False))),
    "llama_dynamic": ("llama", LLAMA | dict(rope_parameters=dict(rope_type="dynamic", rope_theta=300.0, factor=4.0, alpha=8.0)),
                      None),
    "llama_defaults": ("llama", LLAMA | dict(num_key_value_heads=6),
                       without("num_key_value_heads", "head_dim", "rope_parameters", "rms_norm_eps", "hidden_act",
                               "attention_bias", "mlp_bias", "tie_word_embeddings")),
    "mistral": ("mistral", LLAMA | dict(sliding_window=None), None),
    "mistral_window": ("mistral", LLAMA | dict(sliding_window=7, head_dim=12), None),
    "mistral_types": ("mistral", LLAMA | dict(sliding_window=5), dense_cases.edited(layer_types=["full_attention", "sliding_attention"])),
    "qwen2": ("qwen2", LLAMA | dict(tie_word_embeddings=True), None),
    "qwen2_window": ("qwen2", LLAMA | dict(use_sliding_window=True, sliding_window=5, max_window_layers=1), None),
    "qwen2_window_4": ("qwen2", LLAMA | dict(use_sliding_window=True, sliding_window=5, max_window_layers=1),
                       without("layer_types")),
    "qwen3": ("qwen3", LLAMA | dict(head_dim=16), None),
    "qwen3_tied_biased": ("qwen3", LLAMA | dict(head_dim=8, tie_word_embeddings=True, attention_bias=True), None),
    "opt": ("opt", OPT, None),
    "opt_350m": ("opt", OPT | dict(do_layer_norm_before=False, word_embed_proj_dim=32), None),
    "opt_untied": ("opt", OPT | dict(tie_word_embeddings=False, enable_bias=False, activation_function="gelu",
                                     layer_norm_elementwise_affine=False), None),
    # The language part of multimodal models.
    "qwen2_5_vl": ("qwen2_5_vl", multimodal(dict(rope_parameters=MROPE), depth=2, num_heads=2, out_hidden_size=48), None),
    "qwen2_5_vl_flat": ("qwen2_5_vl", multimodal(dict(rope_parameters=MROPE), depth=2, num_heads=2, out_hidden_size=48),
                        flat),
    "qwen2_5_vl_defaults": ("qwen2_5_vl", multimodal(
        dict(rope_parameters=MROPE | dict(mrope_section=[1, 1, 1]), num_attention_heads=8, num_key_value_heads=8,
             use_sliding_window=True, sliding_window=5), depth=2, num_heads=2, out_hidden_size=48)
        | dict(tie_word_embeddings=True), tied_by_text),
    "qwen3_vl": ("qwen3_vl", multimodal(dict(rope_parameters=MROPE | dict(mrope_section=[3, 3, 2]), head_dim=16), depth=2, num_heads=2,
                                        out_hidden_size=48, num_position_embeddings=16, deepstack_visual_indexes=[0]),
                 None),
    "mistral3": ("mistral3", multimodal(dict(model_type="mistral", sliding_window=7, head_dim=12), model_type="pixtral"),
                 None),
    "llava": ("llava", multimodal(dict(model_type="llama"), model_type="clip_vision_model"), None),
}
CASES |= dense_cases.CASES | expert_models.CASES | hybrid_cases.CASES


def other_head(tensors):
    """Fine-tuned apart from the embedding, to which config.json still ties it."""
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0).contiguous()


def base_class(tensors):
    """As LlamaModel saves itself."""
    for name in list(tensors):
        tensors[name.removeprefix("model.")] = tensors.pop(name)


def no_output_biases(tensors):
    for name in [name for name in tensors if name.endswith("o_proj.bias")]:
        del tensors[name]


def one_block_more(tensors):
    for name in [name for name in tensors if name.startswith("model.layers.1.")]:
        tensors[name.replace(".1.", ".2.")] = tensors[name].clone()


# Checkpoints that say something else than their config.json.
STORED = {
    "llama_other_head": (LLAMA | dict(tie_word_embeddings=True), other_head),
    "llama_base_class": (LLAMA | dict(tie_word_embeddings=True), base_class),
    "llama_no_output_biases": (LLAMA | dict(attention_bias=True), no_output_biases),
    "llama_one_block_more": (LLAMA, one_block_more),
}


def randomize(model, generator):
    """Weights large enough that every part shows in the logits."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 2:
                noise *= parameter.shape[1] ** -0.5
            elif ("norm" in name or "ln_" in name) and name.endswith("weight"):
                noise = 1 + 0.2 * noise
            else:
                noise *= 0.3
            parameter.copy_(noise)


def perplexity(model, sequences):
    losses = []
    for sequence in sequences:
        log_p = model(torch.tensor([sequence])).logits[0].double().log_softmax(-1)
        losses += [-log_p[i - 1, sequence[i]] for i in range(1, len(sequence))]
    return torch.stack(losses).mean().exp().item()


def with_sinks(model, generator):
    """Gives a Llama gpt-oss's attention."""
    modeling_llama.eager_attention_forward = modeling_gpt_oss.eager_attention_forward
    model.set_attn_implementation("eager")
    for layer in model.model.layers:
        sinks = torch.randn(model.config.num_attention_heads, generator=generator)
        layer.self_attn.sinks = torch.nn.Parameter(sinks, requires_grad=False)


def make_with_sinks(folder):
    generator = torch.Generator().manual_seed(7)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **LLAMA)).eval()
    with_sinks(model, generator)
    randomize(model, generator)
    model.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"model_type": "llama"', '"model_type": "llama_sinks"'))
    write_reference(folder, model, generator)


def make(folder, model_type, settings, edit, edit_tensors=None):
    generator = torch.Generator().manual_seed(7)
    auto = AutoModelForImageTextToText if "text_config" in settings else AutoModelForCausalLM
    model = auto.from_config(AutoConfig.for_model(model_type, **settings))
    randomize(model, generator)
    model.save_pretrained(folder)
    if edit:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        edit(config)
        path.write_text(json.dumps(config))
    if edit_tensors:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        edit_tensors(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    # What counts is what transformers makes of the files.
    write_reference(folder, auto.from_pretrained(folder, dtype=torch.float32).eval(), generator)


def write_reference(folder, model, generator):
    ids = torch.randint(0, VOCAB, (3, SEQLEN), generator=generator)
    sequences = [torch.randint(0, VOCAB, (n,), generator=generator).tolist() for n in (9, 24, 1, 24, 2)]
    reference = folder / "reference"
    reference.mkdir()
    (reference / "reference.json").write_text(
        json.dumps(dict(sequences=sequences, perplexity=perplexity(model, sequences))))
    logits = model(ids).logits
    norms = []

    def note(module, inputs, output):
        norms.append(dict(norm_input=inputs[0].clone(), norm_output=output.clone()))

    for module in model.modules():
        if "Norm" in type(module).__name__ and not list(module.children()):
            module.register_forward_hook(note)
    bf16_logits = model.bfloat16()(ids).logits
    save_file(dict(ids=ids, logits=logits, bf16_logits=bf16_logits) | norms[-1], reference / "model.safetensors")


def store_head_instead_of_embedding(folder):
    """A tied checkpoint whose one stored tensor bears the head's name."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, path, metadata={"format": "pt"})


def as_published(folder):
    """Llama 4's config.json as its makers have it, which this version of transformers declines."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["layer_types"]
    path.write_text(json.dumps(config | dict(attn_temperature_tuning=4, no_rope_layers=[])))


@torch.no_grad()
def main(out):
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    shutil.rmtree(out, ignore_errors=True)
    for name, case in CASES.items():
        make(out / name, *case)
    for name, (settings, edit_tensors) in STORED.items():
        make(out / name, "llama", settings, None, edit_tensors)
    store_head_instead_of_embedding(out / "llama_head_only")
    as_published(out / "llama4_text_published")
    make_with_sinks(out / "llama_sinks")  # last: it changes transformers


main(Path(sys.argv[1]))
