/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a host extension with read-only facts about the model of an export, as JSON and paths. */
#ifndef ROUNDHOUSE_EXT_MODEL_H
#define ROUNDHOUSE_EXT_MODEL_H

#include "../format.h"

#define RH_EXT_MODEL "roundhouse.model/1"

/* Keys of json():
 *   "config"       the source checkpoint's config.json, as it is
 *   "architecture" {"family", "vocab", "hidden", "intermediate", "blocks", "positions", "heads", "kv_heads", "head_dim",
 *                  "norm": "rms" or "layer", "norm_eps", "rotary": {"dims", "theta", "scaling": "none", "linear",
 *                  "llama3", "yarn", "longrope" or "proportional", "factor", "low_freq_factor", "high_freq_factor",
 *                  "beta_fast", "beta_slow", "truncate", "attention_factor", "original_positions", "short_factors",
 *                  "long_factors", "interleaved": pairs are neighbours, "turning": how many pairs are rotated, of proportional} or
 *                  null, "window_rotary": the same of blocks with a sliding window, where it is another, or null,
 *                  "parallel": attention and MLP read the same, "attention_scale" (null: 1 / sqrt(head_dim)),
 *                  "attention_softcap" and "logit_softcap" (null: none), "length_scale" (null: none): beta, by which
 *                  queries grow every "length_scale_positions", "embedding_scale", "residual_scale", "logit_scale" and
 *                  "logit_divisor" (null: the family has none), "tied_head",
 *                  "latent": {"rank", "q_rank" (0: none), "nope", "rope", "value"}, sizes of latent attention, or null,
 *                  "recurrent": {"kind": "short_conv", "delta_rule" or "mamba2", "kernel", "heads", "head_dim",
 *                  "key_heads", "key_dim", "norm", "norm_before_gate", "dt_min", "dt_max", "scaled"} or null,
 *                  "parts": [{"heads", "kv_heads", "head_dim", "rotary", "intermediate", "experts", "recurrent"}, ..],
 *                  what each block has, 0 or false: nothing,
 *                  "experts", only of a mixture: {"count", "used", "intermediate", "shared_intermediate",
 *                  "dense_first_blocks", "scores": "softmax", "sigmoid" or "sparsemixer", "normalize", "scale", "groups",
 *                  "top_groups", "by_best_two", "weighs_inputs", "limit" and "alpha" (null: no clamp), "latent" (0: none)},
 *                  "sliding_windows": [positions that a block sees, or null], "block_prefix": "model.layers",
 *                  "head": "lm_head", "names": as in its descriptor, with values in place of references to config.json;
 *                  "modules" of it maps stored prefixes to those that transformers has for them}. A model of a family
 *                  without a descriptor has the numbers 0, "rotary" null and all other keys; {} when even its layers are
 *                  not known.
 *   "plan"         {"data_type": that of most layers, "layers": {LAYER: {"data_type", "rounding": "plain", "search",
 *                  "tuned" or "tuned search"}, ..}}: how the encodings of rh_plan came to be, for a configuration that
 *                  records it
 *   "tuning"       {"iters", "lr", "minmax_lr", "samples", "seqlen", "batch_size", "gradient_accumulation",
 *                  "quantized_input", "search", "seed"}
 *   "tokenizer"    {"json": tokenizer.json, made where the model has other files, with all added tokens and their ids;
 *                  "before", "after": the ids that are put around a text; "roles": {"bos": id, "eos", "unk", "pad", ..};
 *                  "pieces": [[text, score, SentencePiece's type], ..] by id, where the model has a SentencePiece file},
 *                  or {"error": why there is none}
 *   "host"         {"name", "version"}
 * Keys of path():
 *   "model"        the source checkpoint's folder
 * since 1.0 */
typedef struct rh_model {
  uint32_t struct_size;
  uint32_t reserved;
  /* The fact's JSON text, or NULL for a key that the host does not know. Owned by the host, valid as long as `export_`.
   * Readers ignore members that they do not know. [thread-safe] since 1.0 */
  const char *(*json)(const rh_export *export_, const char *key);
  /* An absolute or relative path, or NULL for an unknown key. Owned by the host, valid as long as `export_`.
   * Forbidden: writing to what it leads to. [thread-safe] since 1.0 */
  const char *(*path)(const rh_export *export_, const char *key);
  /* end of 1.0: do not modify above */
} rh_model;
RH_ASSERT_END(rh_model, path, 24);

#endif /* ROUNDHOUSE_EXT_MODEL_H */
