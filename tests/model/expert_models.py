# SPDX-License-Identifier: Apache-2.0
"""Tiny mixtures of experts for make_models.py: every kind of router, and every way in which experts are stored."""

import torch

SMALL = dict(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=2, max_position_embeddings=64, pad_token_id=None, bos_token_id=None, eos_token_id=None)
QWEN = SMALL | dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=16)
ROUTED = SMALL | dict(n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=32, n_shared_experts=2,
                      first_k_dense_replace=1)

MLA = dict(num_key_value_heads=6, kv_lora_rank=24, q_lora_rank=20, qk_rope_head_dim=8, v_head_dim=12, qk_nope_head_dim=16)
PIXTRAL = dict(model_type="pixtral", hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
               patch_size=4, image_size=16)
GROWING = dict(mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3)
YARN = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16)

LLAMA4 = SMALL | dict(num_hidden_layers=4, head_dim=8, intermediate_size=32, intermediate_size_mlp=80, num_local_experts=4,
                      interleave_moe_layer_step=2)


def without_layer_types(config):
    del config["layer_types"]


def without_tuning(config):
    """Of the queries' growth, which is the default."""
    del config["attn_temperature_tuning"]


def stacked(tensors):
    """The experts of a block as two tensors, as transformers 5 has them in memory."""
    for block in range(SMALL["num_hidden_layers"]):
        prefix = f"model.layers.{block}.mlp.experts."
        parts = {part: torch.stack([tensors.pop(f"{prefix}{i}.{part}.weight") for i in range(QWEN["num_experts"])])
                 for part in ("gate_proj", "up_proj", "down_proj")}
        tensors[prefix + "gate_up_proj"] = torch.cat([parts["gate_proj"], parts["up_proj"]], 1)
        tensors[prefix + "down_proj"] = parts["down_proj"]


def of_layers(tensors):
    """The names that published checkpoints have; transformers saves others, which it does not read again."""
    for name in [name for name in tensors if ".model.blocks." in name]:
        tensors[name.replace(".model.blocks.", ".model.layers.")] = tensors.pop(name)


# name: (model_type, config, edit of config.json, edit of the tensors)
CASES = {
    "qwen3_moe": ("qwen3_moe", QWEN | dict(norm_topk_prob=True), None),
    "qwen3_moe_all": ("qwen3_moe", QWEN | dict(num_experts_per_tok=6, attention_bias=True, tie_word_embeddings=True), None),
    "qwen3_moe_dense": ("qwen3_moe", QWEN | dict(mlp_only_layers=[1], norm_topk_prob=False), None),
    "qwen3_moe_step": ("qwen3_moe", QWEN | dict(decoder_sparse_step=2), None),
    "qwen3_moe_stacked": ("qwen3_moe", QWEN | dict(norm_topk_prob=True), None, stacked),
    "qwen3_moe_wide": ("qwen3_moe", QWEN | dict(norm_topk_prob=True, hidden_size=256, moe_intermediate_size=256, num_attention_heads=4,
                                                num_key_value_heads=2, head_dim=64), None),
    "mixtral": ("mixtral", SMALL | dict(num_local_experts=4), None),
    "mixtral_window": ("mixtral", SMALL | dict(num_local_experts=5, num_experts_per_tok=3, sliding_window=7), None),
    "qwen2_moe": ("qwen2_moe", SMALL | dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32,
                                            shared_expert_intermediate_size=40), None),
    "qwen2_moe_dense": ("qwen2_moe", SMALL | dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32,
                                                  shared_expert_intermediate_size=40, norm_topk_prob=True,
                                                  mlp_only_layers=[0], qkv_bias=False, use_sliding_window=True,
                                                  sliding_window=9), None),
    "qwen2_moe_window": ("qwen2_moe", SMALL | dict(num_hidden_layers=3, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32,
                                                   shared_expert_intermediate_size=40, use_sliding_window=True,
                                                   sliding_window=5, max_window_layers=2), without_layer_types),
    "olmoe": ("olmoe", SMALL | dict(num_experts=6, num_experts_per_tok=3), None),
    "olmoe_normalized": ("olmoe", SMALL | dict(num_experts=6, num_experts_per_tok=3, norm_topk_prob=True,
                                               tie_word_embeddings=True), None),
    "olmoe_own_keys": ("olmoe", SMALL | dict(num_experts=6, num_experts_per_tok=3, num_key_value_heads=6), None),
    "dots1_own_keys": ("dots1", ROUTED | dict(norm_topk_prob=True, num_key_value_heads=6), None),
    "glm4_moe": ("glm4_moe", ROUTED | dict(use_qk_norm=True, attention_bias=True, routed_scaling_factor=2.5), None),
    "glm4_moe_groups": ("glm4_moe", ROUTED | dict(n_group=4, topk_group=2, norm_topk_prob=False, head_dim=16,
                                                  first_k_dense_replace=0), None),
    "minimax_m2": ("minimax_m2", SMALL | dict(num_local_experts=6, num_experts_per_tok=2, head_dim=16), None),
    "minimax_m2_rotary": ("minimax_m2", SMALL | dict(num_local_experts=6, num_experts_per_tok=2, head_dim=16,
                                                     rotary_dim=8), None),
    "dots1": ("dots1", ROUTED | dict(norm_topk_prob=True, routed_scaling_factor=1.5, n_group=2, topk_group=1), None),
    "phimoe": ("phimoe", SMALL | dict(num_local_experts=4, attention_bias=True, lm_head_bias=True,
                                      router_jitter_noise=0.3), None),
    "ernie4_5_moe": ("ernie4_5_moe", SMALL | dict(moe_num_experts=6, moe_k=2, moe_intermediate_size=32), None),
    "ernie4_5_moe_interval": ("ernie4_5_moe", SMALL | dict(moe_num_experts=6, moe_k=2, moe_intermediate_size=32,
                                                           moe_layer_interval=2, moe_num_shared_experts=0), None),
    "granitemoe": ("granitemoe", SMALL | dict(num_local_experts=4, num_experts_per_tok=2, embedding_multiplier=3.0,
                                              residual_multiplier=0.6, attention_multiplier=0.2, logits_scaling=2.0),
                   None),
    "hunyuan_v1_moe": ("hunyuan_v1_moe", SMALL | dict(num_experts=4, moe_topk=2, head_dim=16), None),
    "gpt_oss": ("gpt_oss", SMALL | dict(num_local_experts=4, num_experts_per_tok=2, head_dim=16, sliding_window=7,
                                        swiglu_limit=0.6,
                                        rope_parameters=dict(rope_type="yarn", rope_theta=500.0, factor=4.0,
                                                             original_max_position_embeddings=16, truncate=False)),
                None),
    "gpt_oss_limit": ("gpt_oss", SMALL | dict(num_local_experts=4, num_experts_per_tok=2, head_dim=16, sliding_window=7,
                                              rope_parameters=YARN), None),
    "deepseek_v3": ("deepseek_v3", ROUTED | dict(num_key_value_heads=6, n_group=4, topk_group=2, kv_lora_rank=24,
                                                 q_lora_rank=20, qk_rope_head_dim=8, v_head_dim=12,
                                                 qk_nope_head_dim=16), None),
    "deepseek_v3_yarn": ("deepseek_v3", ROUTED | dict(
        num_key_value_heads=6, n_group=1, topk_group=1, kv_lora_rank=24, q_lora_rank=None, qk_rope_head_dim=8,
        v_head_dim=16, qk_nope_head_dim=16, norm_topk_prob=False, first_k_dense_replace=0,
        rope_parameters=dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16,
                             mscale=1.0, mscale_all_dim=1.0)), None),
    "deepseek_v2": ("deepseek_v2", ROUTED | MLA | dict(topk_method="group_limited_greedy", n_group=4, topk_group=2,
                                                       routed_scaling_factor=4.0, attention_bias=True, mlp_bias=True),
                    None),
    "deepseek_v2_lite": ("deepseek_v2", ROUTED | MLA | dict(topk_method="greedy", n_group=1, topk_group=1, q_lora_rank=None,
                                                            rope_parameters=YARN | dict(mscale=0.7, mscale_all_dim=0.7)),
                         None),
    "mistral4": ("mistral3", dict(
        text_config=ROUTED | MLA | dict(model_type="mistral4", n_group=2, topk_group=1, routed_scaling_factor=1.5,
                                        attention_bias=True, n_shared_experts=1, rope_parameters=YARN | GROWING),
        vision_config=PIXTRAL), None),
    "mistral4_unbiased": ("mistral3", dict(
        text_config=ROUTED | MLA | dict(model_type="mistral4", n_group=1, topk_group=1, first_k_dense_replace=0,
                                        rope_parameters=YARN | GROWING), vision_config=PIXTRAL), None),
    "mistral4_full_rank": ("mistral3", dict(
        text_config=ROUTED | MLA | dict(model_type="mistral4", q_lora_rank=None, norm_topk_prob=False,
                                        first_k_dense_replace=0, rope_parameters=YARN | GROWING),
        vision_config=PIXTRAL), None),
    "kimi_k25": ("kimi_k25", dict(
        text_config=ROUTED | MLA | dict(model_type="deepseek_v3", n_group=1, topk_group=1),
        vision_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                           patch_size=4, pos_emb_height=4, pos_emb_width=4), projection_hidden_size=32,
        tie_word_embeddings=False), None, of_layers),
    "gemma4_experts": ("gemma4_text", SMALL | dict(
        num_hidden_layers=4, head_dim=8, global_head_dim=16, sliding_window=5, hidden_size_per_layer_input=0, layer_types=[
            "sliding_attention", "full_attention"] * 2, enable_moe_block=True, num_experts=6, top_k_experts=2,
        moe_intermediate_size=32), None),
    "llama4_text": ("llama4_text", LLAMA4, None),
    "llama4_text_chunks": ("llama4_text", LLAMA4 | dict(attention_chunk_size=7, floor_scale=4, attn_scale=0.5), without_tuning),
    "llama4_text_published": ("llama4_text", LLAMA4 | dict(attention_chunk_size=7, floor_scale=4, attn_scale=0.5), None),
    "llama4_text_tied": ("llama4_text", LLAMA4 | dict(
        tie_word_embeddings=True, attention_bias=True, use_qk_norm=False, num_experts_per_tok=2, no_rope_layers=[0, 1, 1, 0],
        moe_layers=[1, 2], attention_chunk_size=5, layer_types=["full_attention", "chunked_attention"] * 2,
        attn_temperature_tuning=False), None),
    "llama4": ("llama4", dict(
        text_config=LLAMA4 | dict(attention_chunk_size=7, floor_scale=4, interleave_moe_layer_step=1),
        vision_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, patch_size=4,
                           image_size=16, vision_output_dim=32, projector_input_dim=32, projector_output_dim=32)), None),
    "glm4_moe_lite": ("glm4_moe_lite", ROUTED | dict(num_key_value_heads=6, n_group=1, topk_group=1, kv_lora_rank=24,
                                                     q_lora_rank=20, qk_rope_head_dim=8, v_head_dim=12,
                                                     qk_nope_head_dim=16), None),
    "qwen3_vl_moe": ("qwen3_vl_moe",
                     dict(text_config=QWEN | dict(rope_parameters=dict(rope_type="default", rope_theta=700.0,
                                                                       mrope_section=[3, 3, 2])),
                          vision_config=dict(hidden_size=32, intermediate_size=64, depth=2, num_heads=2, patch_size=4,
                                             out_hidden_size=48, num_position_embeddings=16,
                                             deepstack_visual_indexes=[0]), tie_word_embeddings=False), None),
}


def randomize_choice(model, generator):
    """Correction biases that change the choice."""
    for name, tensor in [*model.named_buffers(), *model.named_parameters()]:
        if name.endswith("e_score_correction_bias"):
            tensor.data.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith((".gate.weight", ".router.weight")) and tensor.dim() == 2:
            tensor.data.mul_(3)  # far from ties
        elif tensor.dim() == 3 and "experts" in name:
            tensor.data.mul_(0.5)
