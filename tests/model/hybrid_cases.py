# SPDX-License-Identifier: Apache-2.0
"""The cases of make_models.py for families whose blocks differ: name: (model_type, config, edit of config.json or None)."""

from dense_cases import edited, rope

BASE = dict(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=4, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
TIED, UNTIED = dict(tie_word_embeddings=True), dict(tie_word_embeddings=False)
ROUTED = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32)

CONV = dict(layer_types=["conv", "conv", "full_attention", "conv"])

# Keys are shared by two heads, and heads of keys and of values differ in size.
DELTA = BASE | dict(head_dim=16, rms_norm_eps=1e-3, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
                    linear_value_head_dim=12)
# As llama.cpp has them, and whole blocks of its types.
EVEN = dict(hidden_size=64, linear_key_head_dim=32, linear_value_head_dim=32)
SHARED = ROUTED | dict(shared_expert_intermediate_size=40)
VISION = dict(vision_config=dict(hidden_size=32, intermediate_size=64, depth=1, num_heads=2, patch_size=4,
                                 out_hidden_size=48, num_position_embeddings=16))
MROPE = rope(mrope_section=[1, 1, 0], mrope_interleaved=True, partial_rotary_factor=0.25)

SSM = dict(mamba_n_heads=8, mamba_d_head=12, mamba_n_groups=2, mamba_d_state=10, mamba_chunk_size=8)
BOUNDED = dict(time_step_limit=[0.4, 0.9])
GRANITE = BASE | SSM | dict(layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"],
                            num_local_experts=6, shared_intermediate_size=40, embedding_multiplier=3.0,
                            attention_multiplier=0.2, logits_scaling=4.0, residual_multiplier=0.3)
NEMOTRON = {key: value for key, value in BASE.items() if key != "num_hidden_layers"} | dict(
    head_dim=16, mamba_num_heads=8, mamba_head_dim=12, n_groups=4, ssm_state_size=10, chunk_size=8, n_routed_experts=6,
    moe_intermediate_size=32, moe_shared_expert_intermediate_size=40)
FALCON = BASE | SSM | dict(num_hidden_layers=2, mamba_d_ssm=96)
MULTIPLIERS = dict(attention_in_multiplier=0.7, attention_out_multiplier=1.3, embedding_multiplier=2.0, key_multiplier=0.6,
                   lm_head_multiplier=0.5, mlp_multipliers=[0.8, 1.2], ssm_in_multiplier=0.9, ssm_out_multiplier=1.1,
                   ssm_multipliers=[0.7, 1.1, 0.9, 1.2, 0.8])

CASES = {
    "lfm2": ("lfm2", BASE | CONV, None),
    "lfm2_untied": ("lfm2", BASE | UNTIED | CONV | dict(conv_bias=True, conv_L_cache=4, block_auto_adjust_ff_dim=False), None),
    "lfm2_old": ("lfm2", BASE | UNTIED | dict(full_attn_idxs=[1, 2], block_ffn_dim_multiplier=1.3, block_multiple_of=16),
                 edited("layer_types", "intermediate_size", "tie_word_embeddings", block_ff_dim=80, tie_embedding=False)),
    "lfm2_attention": ("lfm2", BASE | dict(layer_types=["full_attention"] * 4), edited("layer_types", "full_attn_idxs")),
    "lfm2_moe": ("lfm2_moe", BASE | CONV | ROUTED, None),
    "lfm2_moe_plain": ("lfm2_moe", BASE | UNTIED | CONV | ROUTED | dict(
        use_expert_bias=False, norm_topk_prob=False, routed_scaling_factor=1.5, num_dense_layers=1, conv_bias=True), None),
    "qwen3_next": ("qwen3_next", DELTA | SHARED, None),
    "qwen3_next_dense": ("qwen3_next", DELTA | TIED | SHARED | dict(
        num_hidden_layers=5, mlp_only_layers=[1], norm_topk_prob=False, attention_bias=True, linear_conv_kernel_dim=2,
        linear_num_value_heads=2, full_attention_interval=3), edited("layer_types", full_attention_interval=3)),
    "qwen3_next_even": ("qwen3_next", DELTA | EVEN | SHARED, None),
    "qwen3_5_text": ("qwen3_5_text", DELTA, None),
    "qwen3_5_even": ("qwen3_5", dict(text_config=DELTA | EVEN | MROPE) | VISION, None),
    "qwen3_5": ("qwen3_5", dict(text_config=DELTA | MROPE) | VISION, None),
    "qwen3_5_tied": ("qwen3_5", dict(text_config=DELTA | TIED | dict(layer_types=["full_attention", "linear_attention"] * 2))
                     | TIED | VISION, None),
    "qwen3_5_moe_text": ("qwen3_5_moe_text", {k: v for k, v in DELTA.items() if k != "intermediate_size"} | SHARED, None),
    "qwen3_5_moe": ("qwen3_5_moe", dict(text_config={k: v for k, v in DELTA.items() if k != "intermediate_size"} | SHARED
                                        | MROPE) | VISION, None),
    "qwen3_5_moe_even": ("qwen3_5_moe", dict(text_config={k: v for k, v in DELTA.items() if k != "intermediate_size"} | EVEN
                                             | SHARED | MROPE) | VISION, None),
    "bamba": ("bamba", BASE | SSM | dict(attn_layer_indices=[1]), edited(mamba_d_head="auto")),
    "bamba_biased": ("bamba", BASE | TIED | SSM | BOUNDED | dict(
        attn_layer_indices=[0, 2], mamba_conv_bias=False, mamba_proj_bias=True, attention_bias=True, mlp_bias=True), None),
    "granitemoehybrid": ("granitemoehybrid", GRANITE, None),
    "granitemoehybrid_dense": ("granitemoehybrid", GRANITE | TIED | BOUNDED | rope() | dict(
        num_local_experts=0, position_embedding_type="rope", mamba_proj_bias=True, attention_bias=True, mamba_n_groups=1),
        edited(layer_types=["mamba", "mamba", "attention", "mamba"])),
    "granitemoehybrid_mamba": ("granitemoehybrid", GRANITE | dict(layer_types=["linear_attention"] * 4, use_cache=False),
                               edited("layer_types", "layers_block_type", mamba_d_head="auto")),
    "nemotron_h": ("nemotron_h", NEMOTRON | dict(layers_block_type=[
        "linear_attention", "mlp", "linear_attention", "full_attention", "moe"]), None),
    "nemotron_h_experts": ("nemotron_h", NEMOTRON | dict(layers_block_type=["linear_attention", "moe", "full_attention", "moe"]), None),
    "nemotron_h_dense": ("nemotron_h", NEMOTRON | dict(layers_block_type=["linear_attention", "mlp", "full_attention", "mlp"]), None),
    "nemotron_h_latent": ("nemotron_h", NEMOTRON | dict(layers_block_type=["full_attention", "moe"], mlp_bias=True,
                                                        moe_latent_size=24), None),
    "nemotron_h_old": ("nemotron_h", NEMOTRON | TIED | dict(
        layers_block_type=["full_attention", "linear_attention", "moe", "mlp"], use_bias=True, mlp_bias=True, n_group=2,
        topk_group=1, norm_topk_prob=False, routed_scaling_factor=2.5, use_conv_bias=False, time_step_min=0.5),
        edited("layers_block_type", hybrid_override_pattern="*ME-")),
    "falcon_h1": ("falcon_h1", FALCON | MULTIPLIERS, None),
    "falcon_h1_plain": ("falcon_h1", FALCON, edited(mamba_d_head="auto")),
    "falcon_h1_normed": ("falcon_h1", FALCON | TIED | BOUNDED | dict(mamba_rms_norm=True, mamba_proj_bias=True,
                                                                    projectors_bias=True, attention_bias=True, mlp_bias=True),
                         None),
    "falcon_h1_gated": ("falcon_h1", FALCON | MULTIPLIERS | dict(mamba_rms_norm=True, mamba_norm_before_gate=False,
                                                                 mamba_conv_bias=False), None),
}
