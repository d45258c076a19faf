/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a format's extension that chooses data types by a layer's role. */
#ifndef ROUNDHOUSE_EXT_ASSIGN_H
#define ROUNDHOUSE_EXT_ASSIGN_H

#include "../format.h"

#define RH_EXT_ASSIGN "roundhouse.assign/1"

/* since 1.0 */
typedef struct rh_assign {
  uint32_t struct_size;
  uint32_t reserved;
  /* Asked at plan time: which data type a layer is to have, where no entry of the recipe's `layers` says it.
   * `layers_json` is {"data_type": the recipe's, or null, "layers": [{"name", "role", "rows", "cols"}, ..]}, the embedding
   * among them; `architecture_json` is the key "architecture" of ext/model.h. Calls take(context, text) once with
   * {"LAYER": {"data_type": "...", ...: keys of a recipe's scheme, "reason": why it is not what the user would expect,
   * optional}}; a layer that is not there keeps the recipe's scheme, and outside the blocks its weight. With a tied head,
   * the embedding's data type is that of both. [thread-safe] since 1.0 */
  rh_code (*assign)(const rh_format *format, const char *layers_json, const char *architecture_json,
                    const char *options_json, void (*take)(void *context, const char *text), void *context,
                    rh_error *error);
  /* end of 1.0: do not modify above */
} rh_assign;
RH_ASSERT_END(rh_assign, assign, 16);

#endif /* ROUNDHOUSE_EXT_ASSIGN_H */
