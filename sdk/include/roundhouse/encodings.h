/* Roundhouse SDK: the encodings that Roundhouse's own plugins share, with their normative decode formulas.
 *
 * The encoding is the joint between data types and formats: a data type names the one that it emits, a format those that it
 * packs, and neither knows the other. A vendor's own encoding has an id under a name of its own ("example.com/nf4/1").
 *
 * Conventions: W is [rows, cols] = [out_features, in_features]; codes cross one a byte; packing is the format's work.
 */
#ifndef ROUNDHOUSE_ENCODINGS_H
#define ROUNDHOUSE_ENCODINGS_H

/* affine-int/1: W[r][c] = scale[r][g] * (code[r][c] - zero_point[r][g])
 *
 *   g = c / group_cols; the last group of a row may be shorter. Computed in float32, rounded once to the output type.
 *   parameters  {"bits": 2..8,
 *                "group_cols": columns of a group (cols: one group a row),
 *                "group_rows": 1, or rows (one group for the whole tensor: scale is [1, 1]),
 *                "symmetric": true (zero_point is 2^(bits-1) everywhere and not sent) or false}
 *   tensors     "codes"       u8 [rows, cols], 0 .. 2^bits - 1
 *               "scale"       f16, bf16 or f32 [rows / group_rows, ceil(cols / group_cols)]; may be negative
 *               "zero_point"  u8, shape of scale, 0 .. 2^bits - 1; absent when symmetric
 *               "outer_scale" f32 [1], optional: a factor of every scale (progressive quantization) */
#define RH_ENCODING_AFFINE_INT "affine-int/1"

#endif /* ROUNDHOUSE_ENCODINGS_H */
