/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: a host extension that dequantizes a layer for a format that does not know its encoding. */
#ifndef ROUNDHOUSE_EXT_DECODE_H
#define ROUNDHOUSE_EXT_DECODE_H

#include "../format.h"

#define RH_EXT_DECODE "roundhouse.decode/1"

/* since 1.0 */
typedef struct rh_decode {
  uint32_t struct_size;
  uint32_t reserved;
  /* Writes the dequantized weight [rows, cols] in f32, f16 or bf16 to the plugin's own memory.
   * Allowed only for the layer of the add_layer call that runs. [worker] since 1.0 */
  rh_code (*decode)(const rh_export *export_, const rh_encoded_layer *layer, rh_tensor *output, rh_error *error);
  /* end of 1.0: do not modify above */
} rh_decode;
RH_ASSERT_END(rh_decode, decode, 16);

#endif /* ROUNDHOUSE_EXT_DECODE_H */
