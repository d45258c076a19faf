# SPDX-License-Identifier: Apache-2.0
"""The cases of make_models.py for dense families: name: (model_type, config, edit of config.json or None)."""

VOCAB = 97
BASE = dict(vocab_size=VOCAB, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
FOUR = BASE | dict(num_hidden_layers=4)
TIED, UNTIED = dict(tie_word_embeddings=True), dict(tie_word_embeddings=False)
BIASED = dict(attention_bias=True, mlp_bias=True)


def rope(theta=700.0, **more):
    return dict(rope_parameters=dict(rope_type="default", rope_theta=theta) | more)


def edited(*drop, **put):
    """Drops these keys of config.json, then puts others there."""

    def edit(config):
        for key in drop:
            config.pop(key, None)
        config.update(put)

    return edit


YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
LONGROPE = dict(rope_type="longrope", short_factor=[1.0, 1.2, 1.5, 2.0], long_factor=[1.5, 2.0, 3.0, 5.0])
PHI3 = BASE | dict(original_max_position_embeddings=32)
GEMMA = FOUR | dict(head_dim=16, query_pre_attn_scalar=24, sliding_window=5)
USUAL = dict(query_pre_attn_scalar=16)  # llama.cpp does not read another one
KINDS = dict(rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=900.0, factor=4.0),
                                  sliding_attention=dict(rope_type="default", rope_theta=50.0)))
SIGLIP = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, patch_size=4, image_size=16)
PIXTRAL = SIGLIP | dict(model_type="pixtral")
FALCON = dict(vocab_size=VOCAB, hidden_size=48, num_hidden_layers=2, num_attention_heads=6, max_position_embeddings=64)
BLOOM = dict(vocab_size=VOCAB, hidden_size=48, n_layer=2, n_head=6)
# With a pad_token_id transformers would take another row of the embedding than the stored one.
YOUTU = BASE | dict(pad_token_id=None, num_key_value_heads=6, q_lora_rank=20, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=12,
                    v_head_dim=10)
GPT2 = dict(vocab_size=VOCAB, n_embd=48, n_layer=2, n_head=6, n_positions=64, bos_token_id=1, eos_token_id=2)
GEMMA4 = FOUR | dict(head_dim=8, global_head_dim=16, sliding_window=5, hidden_size_per_layer_input=0, layer_types=[
    "sliding_attention", "full_attention", "sliding_attention", "full_attention"])

INPUTS = dict(hidden_size_per_layer_input=10, vocab_size_per_layer_input=VOCAB)


def base_class(tensors):
    """As GPT2Model saves itself."""
    for name in list(tensors):
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)


CASES = {
    "olmo2": ("olmo2", BASE | rope(), None),
    "olmo2_tied": ("olmo2", BASE | TIED | dict(attention_bias=True), None),
    "phi": ("phi", BASE | rope(partial_rotary_factor=0.5), None),
    "phi_norms": ("phi", BASE | TIED | dict(qk_layernorm=True) | rope(partial_rotary_factor=0.25, theta=900.0), None),
    "starcoder2": ("starcoder2", BASE | rope() | dict(sliding_window=7), None),
    "starcoder2_unbiased": ("starcoder2", BASE | UNTIED | dict(use_bias=False), None),
    "stablelm": ("stablelm", BASE | rope(partial_rotary_factor=0.25), None),
    "stablelm_parallel": ("stablelm", BASE | TIED | dict(use_parallel_residual=True, use_qkv_bias=True), None),
    "seed_oss": ("seed_oss", BASE | rope() | dict(head_dim=16), None),
    "seed_oss_tied": ("seed_oss", BASE | TIED | dict(head_dim=8, attention_bias=False, attention_out_bias=True,
                                                     mlp_bias=True), None),
    "ministral": ("ministral", BASE | rope() | dict(sliding_window=5, layer_types=["full_attention", "sliding_attention"],
                                                    head_dim=12), None),
    "ministral_tied": ("ministral", BASE | TIED | dict(sliding_window=5, head_dim=8), edited("layer_types")),
    "olmo": ("olmo", BASE | rope(), None),
    "olmo_tied": ("olmo", BASE | TIED | dict(attention_bias=True), None),
    "exaone4": ("exaone4", FOUR | rope() | dict(sliding_window=None, sliding_window_pattern=None,
                                                layer_types=["full_attention"] * 4), None),
    "exaone4_window": ("exaone4", FOUR | TIED | rope() | dict(sliding_window=5), edited("layer_types")),
    "gemma": ("gemma", BASE | rope() | dict(head_dim=16), None),
    "gemma_untied": ("gemma", BASE | UNTIED | dict(head_dim=8, hidden_act="gelu", attention_bias=True), None),
    "gemma_relu": ("gemma", BASE | dict(head_dim=16, hidden_act="relu"), None),
    "gemma2": ("gemma2", GEMMA | USUAL | rope() | dict(attn_logit_softcapping=2.0, final_logit_softcapping=3.0), None),
    "gemma2_uncapped": ("gemma2", GEMMA | UNTIED | dict(attn_logit_softcapping=None, final_logit_softcapping=None,
                                                        attention_bias=True), edited("layer_types", "hidden_activation", hidden_act="relu")),
    "gemma3_text": ("gemma3_text", GEMMA | USUAL | KINDS | dict(num_hidden_layers=6), None),
    "gemma3_text_4": ("gemma3_text", GEMMA | KINDS | UNTIED | dict(num_hidden_layers=6, final_logit_softcapping=3.0),
                      edited("layer_types", "rope_parameters", rope_theta=900.0, rope_local_base_freq=50.0,
                             rope_scaling=dict(rope_type="linear", factor=4.0), sliding_window_pattern=3)),
    # A map for all blocks beside one for each kind of them, which it changes.
    "gemma3_text_maps": ("gemma3_text", GEMMA | USUAL | KINDS | dict(num_hidden_layers=6), edited(
        rope_theta=77.0, original_max_position_embeddings=32, rope_scaling=YARN | dict(factor=2.0))),
    # Of a type under its old name nothing is taken: that of the map for each kind is the default one.
    "gemma3_text_old_type": ("gemma3_text", GEMMA | USUAL | KINDS | dict(num_hidden_layers=6), edited(
        "rope_parameters", rope_scaling=dict(type="linear", factor=4.0))),
    "gemma3": ("gemma3", dict(text_config=GEMMA | KINDS, vision_config=SIGLIP, mm_tokens_per_image=4), None),
    "granite": ("granite", BASE | rope() | dict(embedding_multiplier=3.0, attention_multiplier=0.2, logits_scaling=4.0,
                                                residual_multiplier=0.3), None),
    "granite_tied": ("granite", BASE | TIED | BIASED | dict(embedding_multiplier=12.0, attention_bias=False, mlp_bias=False), None),
    "glm": ("glm", BASE | rope(partial_rotary_factor=0.5) | dict(head_dim=16), None),
    "glm_tied": ("glm", BASE | TIED | dict(head_dim=8, attention_bias=False), edited("rope_parameters", rope_theta=500.0)),
    "glm4": ("glm4", BASE | rope(partial_rotary_factor=0.5) | dict(head_dim=16), None),
    "glm4_tied": ("glm4", BASE | TIED | dict(head_dim=8, attention_bias=False), None),
    "smollm3": ("smollm3", FOUR | rope(), None),
    "smollm3_untied": ("smollm3", FOUR | UNTIED | BIASED | dict(no_rope_layers=[0, 1, 1, 0], use_sliding_window=True,
                                                               sliding_window=5), None),
    "smollm3_window": ("smollm3", FOUR, edited(sliding_window=5, layer_types=["full_attention", "sliding_attention"] * 2)),
    "smollm3_4": ("smollm3", FOUR | rope() | dict(no_rope_layer_interval=2), edited("no_rope_layers")),
    "cohere": ("cohere", BASE | rope(), None),
    "cohere_norms": ("cohere", BASE | UNTIED | dict(use_qk_norm=True, attention_bias=True, logit_scale=0.5), None),
    "cohere2": ("cohere2", FOUR | rope() | dict(sliding_window=5), None),
    "cohere2_untied": ("cohere2", FOUR | UNTIED | dict(head_dim=16, sliding_window=5, attention_bias=True),
                       edited("layer_types", sliding_window_pattern=2)),
    "olmo3": ("olmo3", FOUR | dict(sliding_window=5, rope_parameters=dict(
        full_attention=YARN | dict(rope_theta=900.0), sliding_attention=dict(rope_type="default", rope_theta=900.0))), None),
    "olmo3_4": ("olmo3", FOUR | TIED | dict(sliding_window=5, attention_bias=True),
                edited("layer_types", "rope_parameters", rope_theta=900.0, rope_scaling=YARN)),
    "olmo3_maps": ("olmo3", FOUR | dict(sliding_window=5, rope_parameters=dict(
        full_attention=dict(rope_type="default", rope_theta=900.0), sliding_attention=dict(rope_type="default"))), edited(
            rope_theta=77.0, rope_scaling=YARN)),
    "ernie4_5": ("ernie4_5", BASE | rope() | dict(head_dim=16), None),
    "ernie4_5_untied": ("ernie4_5", BASE | UNTIED | dict(head_dim=8, use_bias=True), None),
    "hunyuan": ("hunyuan_v1_dense", BASE | rope() | dict(head_dim=16), None),
    "hunyuan_alpha": ("hunyuan_v1_dense", BASE | TIED | dict(attention_bias=True, head_dim=8) | rope(
        rope_type="dynamic", alpha=50.0, factor=1.0), None),
    "nemotron": ("nemotron", BASE | rope(partial_rotary_factor=0.5), None),
    "nemotron_tied": ("nemotron", BASE | TIED | BIASED | dict(head_dim=16), None),
    "arcee": ("arcee", BASE | rope(), None),
    "arcee_tied": ("arcee", BASE | TIED | BIASED | dict(head_dim=16), None),
    "apertus": ("apertus", BASE | rope(), None),
    "apertus_theta": ("apertus", BASE, edited("rope_parameters", rope_theta=700.0)),  # not beside the default map
    "apertus_null": ("apertus", BASE, edited(rope_parameters=None)),
    "apertus_tied": ("apertus", BASE | TIED | dict(attention_bias=True), None),
    "ministral3": ("ministral3", BASE | dict(head_dim=16, rope_parameters=dict(
        rope_type="yarn", rope_theta=900.0, factor=8.0, original_max_position_embeddings=8, mscale=1.0,
        mscale_all_dim=1.0, llama_4_scaling_beta=0.3)), None),
    "ministral3_4": ("ministral3", BASE | dict(head_dim=16), edited(
        "rope_parameters", rope_theta=900.0, rope_scaling=YARN | dict(original_max_position_embeddings=8, mscale=1.0,
                                                                      mscale_all_dim=1.0, llama_4_scaling_beta=0.3))),
    "ministral3_maps": ("ministral3", BASE | dict(head_dim=16), edited(rope_theta=900.0, rope_scaling=YARN | dict(
        llama_4_scaling_beta=0.3, original_max_position_embeddings=8))),
    "ministral3_defaults": ("ministral3", BASE | dict(head_dim=16), edited("rope_parameters")),
    "mistral3_ministral3": ("mistral3", dict(text_config=BASE | dict(model_type="ministral3", head_dim=16, sliding_window=7),
                                             vision_config=PIXTRAL), None),
    # One tensor that is q, k and v, or gate and up.
    "phi3": ("phi3", PHI3 | rope(), None),
    "phi3_window": ("phi3", PHI3 | TIED | rope(partial_rotary_factor=0.5) | dict(sliding_window=5), None),
    "phi3_longrope": ("phi3", PHI3 | rope(**LONGROPE), None),
    "phi3_longrope_yarn": ("phi3", PHI3 | rope(), edited("rope_parameters", rope_theta=700.0,
                                                         rope_scaling=LONGROPE | dict(rope_type="yarn"))),
    "phi3_longrope_long": ("phi3", PHI3 | dict(original_max_position_embeddings=16) | rope(**LONGROPE), None),
    "gpt_neox": ("gpt_neox", BASE | dict(rope_parameters=dict(rope_type="default", rope_theta=900.0,
                                                              partial_rotary_factor=0.25)), None),
    "gpt_neox_sequential": ("gpt_neox", BASE | TIED | dict(use_parallel_residual=False, attention_bias=False,
                                                           hidden_act="gelu_new"),
                            edited("rope_parameters", rotary_pct=0.5, rotary_emb_base=500.0)),
    "falcon_7b": ("falcon", FALCON, None),
    "falcon_180b": ("falcon", FALCON | UNTIED | rope() | dict(new_decoder_architecture=True, num_kv_heads=2, bias=True,
                                                              ffn_hidden_size=80), None),
    "falcon_11b": ("falcon", FALCON | dict(new_decoder_architecture=True, num_kv_heads=3, num_ln_in_parallel_attn=1), None),
    "falcon_rw": ("falcon", FALCON | dict(alibi=True, multi_query=False, parallel_attn=False, bias=True), None),
    "bloom": ("bloom", BLOOM, None),
    "bloom_untied": ("bloom", BLOOM | UNTIED | dict(n_head=4), None),
    # Latent attention, and sizes by the kind of block.
    "youtu": ("youtu", YOUTU | rope(), None),
    "youtu_yarn": ("youtu", YOUTU | UNTIED | dict(q_lora_rank=None, rope_interleave=False, attention_bias=True) | rope(
        **YARN, mscale=1.0, mscale_all_dim=0.7), None),
    "gemma4_text": ("gemma4_text", GEMMA4 | dict(attention_k_eq_v=True, num_global_key_value_heads=3), None),
    "qwen3_5_full": ("qwen3_5_text", BASE | dict(head_dim=16, layer_types=["full_attention"] * 2,
                                                 rope_parameters=dict(rope_type="default", rope_theta=700.0,
                                                                      partial_rotary_factor=0.5)), None),
    # Each block has an input of its own, and the last ones have the keys and values of earlier ones.
    "gemma4_inputs": ("gemma4_text", GEMMA4 | INPUTS | dict(num_kv_shared_layers=2, use_double_wide_mlp=True), None),
    "gemma4_inputs_untied": ("gemma4_text", GEMMA4 | INPUTS | UNTIED | dict(
        num_hidden_layers=6, num_kv_shared_layers=3, layer_types=["sliding_attention", "full_attention"] * 3,
        attention_k_eq_v=True, num_global_key_value_heads=3, vocab_size_per_layer_input=100), None),
    "gpt2": ("gpt2", GPT2, None),
    "gpt2_untied": ("gpt2", GPT2 | UNTIED | dict(n_inner=80, activation_function="gelu", scale_attn_weights=False), None),
    "gpt2_base": ("gpt2", GPT2, None, base_class),
    "gemma4_text_values": ("gemma4_text", GEMMA4 | UNTIED | dict(attention_bias=True, final_logit_softcapping=3.0), None),
}
