/* SPDX-License-Identifier: Apache-2.0 */
/* Roundhouse SDK: the parameters of the shared encodings (../encoding.h) as C structs, read from and written as JSON. A
 * helper, no part of the ABI: every function is inline. A plugin in C needs no JSON of its own; the C++ helpers beside this
 * header stand on it.
 *
 * Each parse function returns 1 and fills `out`, or returns 0 when `json` is no object, a parameter is missing or has a
 * value that the encoding does not have; members that it does not know are ignored. Each print function writes at most
 * `size` bytes, the last of them 0, and returns the length of the whole text, as snprintf does: RH_PARAMETERS_SIZE is
 * always enough.
 */
#ifndef ROUNDHOUSE_ENCODING_PARAMETERS_H
#define ROUNDHOUSE_ENCODING_PARAMETERS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../encoding.h"

#define RH_PARAMETERS_SIZE 192

/* Values of `dynamic`. */
#define RH_INPUT_NONE (-1) /* the encoding of a weight: it has no such parameter */
#define RH_INPUT_CALIBRATED 0
#define RH_INPUT_DYNAMIC 1

/* ---- members of a JSON object ---- */

static inline const char *rh_json_space(const char *p) {
  while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') ++p;
  return p;
}
/* `p` is at the opening quote; returns what follows the closing one, or NULL. */
static inline const char *rh_json_after_text(const char *p) {
  for (++p; *p && *p != '"'; ++p)
    if (*p == '\\' && !*++p) return NULL;
  return *p ? p + 1 : NULL;
}
/* What follows the value that begins at `p`, or NULL. */
static inline const char *rh_json_after_value(const char *p) {
  int depth = 0;
  if (*p == '"') return rh_json_after_text(p);
  for (; *p; ++p) {
    if (depth == 0 && (*p == ',' || *p == '}' || *p == ']')) return p;
    if (*p == '"') {
      p = rh_json_after_text(p);
      if (!p) return NULL;
      --p;
    }
    if (*p == '{' || *p == '[') ++depth;
    if ((*p == '}' || *p == ']') && --depth == 0) return p + 1;
  }
  return NULL;
}
/* The value of the object's member `key`, where its text begins; NULL when there is none. */
static inline const char *rh_json_member(const char *json, const char *key) {
  const size_t length = strlen(key);
  const char *p = rh_json_space(json);
  if (*p++ != '{') return NULL;
  for (;;) {
    const char *name, *end;
    p = rh_json_space(p);
    if (*p != '"') return NULL;
    name = p + 1;
    end = rh_json_after_text(p);
    if (!end) return NULL;
    p = rh_json_space(end);
    if (*p++ != ':') return NULL;
    p = rh_json_space(p);
    if ((size_t)(end - 1 - name) == length && memcmp(name, key, length) == 0) return p;
    p = rh_json_after_value(p);
    if (!p) return NULL;
    p = rh_json_space(p);
    if (*p++ != ',') return NULL;
  }
}
static inline int rh_json_ends(const char *p) {
  p = rh_json_space(p);
  return *p == ',' || *p == '}';
}
/* The member as an integer, a truth value, or one of `count` texts (as its index). Return 0 when it is not that. */
static inline int rh_json_integer(const char *json, const char *key, int64_t *out) {
  const char *value = rh_json_member(json, key);
  char *end;
  long long number;
  if (!value || (*value != '-' && (*value < '0' || *value > '9'))) return 0;
  number = strtoll(value, &end, 10);
  if (end == value || !rh_json_ends(end)) return 0;
  *out = (int64_t)number;
  return 1;
}
static inline int rh_json_flag(const char *json, const char *key, int32_t *out) {
  const char *value = rh_json_member(json, key);
  const int yes = value && strncmp(value, "true", 4) == 0 && rh_json_ends(value + 4);
  const int no = value && strncmp(value, "false", 5) == 0 && rh_json_ends(value + 5);
  if (yes || no) *out = yes;
  return yes || no;
}
static inline int rh_json_choice(const char *json, const char *key, const char *const *texts, int32_t count,
                                 int32_t *out) {
  const char *value = rh_json_member(json, key), *end = value && *value == '"' ? rh_json_after_text(value) : NULL;
  int32_t i;
  if (!end) return 0;
  for (i = 0; i < count; ++i) {
    if (strlen(texts[i]) != (size_t)(end - value - 2) || memcmp(value + 1, texts[i], strlen(texts[i])) != 0) continue;
    *out = i;
    return 1;
  }
  return 0;
}
/* RH_INPUT_*; 0 when the member is neither absent nor a truth value. */
static inline int rh_json_dynamic(const char *json, int32_t *out) {
  *out = RH_INPUT_NONE;
  return !rh_json_member(json, "dynamic") || rh_json_flag(json, "dynamic", out);
}
/* The member as rh_json_flag() gives it, 0 when it is absent; returns 0 when it is something else. */
static inline int rh_json_flag_or_absent(const char *json, const char *key, int32_t *out) {
  *out = 0;
  return !rh_json_member(json, key) || rh_json_flag(json, key, out);
}
static inline const char *rh_dynamic_text(int32_t dynamic) {
  return dynamic == RH_INPUT_NONE ? "" : dynamic ? ", \"dynamic\": true" : ", \"dynamic\": false";
}

/* ---- affine-int/1 ---- */

typedef struct rh_affine_int {
  int32_t bits;       /* 2 to 8 */
  int32_t symmetric;  /* 0 or 1 */
  int64_t group_rows; /* 1, or the rows of the weight: one group for the whole tensor. Inputs: 1, or 0, the same */
  int64_t group_cols;
  int32_t dynamic;  /* RH_INPUT_* */
  int32_t mirrored; /* inputs: 0 or 1 */
} rh_affine_int;

static inline int rh_affine_int_parse(const char *json, rh_affine_int *out) {
  rh_affine_int p;
  int64_t bits = 0;
  if (!rh_json_integer(json, "bits", &bits) || bits < 2 || bits > 8 || !rh_json_flag(json, "symmetric", &p.symmetric) ||
      !rh_json_integer(json, "group_rows", &p.group_rows) || p.group_rows < 0 ||
      !rh_json_integer(json, "group_cols", &p.group_cols) || p.group_cols < 1 || !rh_json_dynamic(json, &p.dynamic) ||
      !rh_json_flag_or_absent(json, "mirrored", &p.mirrored))
    return 0;
  p.bits = (int32_t)bits;
  *out = p;
  return 1;
}
static inline int rh_affine_int_print(const rh_affine_int *p, char *text, size_t size) {
  return snprintf(text, size, "{\"bits\": %d, \"group_cols\": %lld, \"group_rows\": %lld, \"symmetric\": %s%s%s}",
                  p->bits, (long long)p->group_cols, (long long)p->group_rows, p->symmetric ? "true" : "false",
                  rh_dynamic_text(p->dynamic), p->mirrored ? ", \"mirrored\": true" : "");
}

/* ---- scaled-fp8/1 ---- */

#define RH_FP8_E4M3 0
#define RH_FP8_E5M2 1
static const char *const rh_fp8_names[] = {"e4m3", "e5m2"};

typedef struct rh_scaled_fp8 {
  int32_t element;                /* RH_FP8_* */
  int32_t dynamic;                /* RH_INPUT_* */
  int64_t group_rows, group_cols; /* rows and columns that share a scale; inputs: group_rows 0, the whole tensor */
} rh_scaled_fp8;

static inline int rh_scaled_fp8_parse(const char *json, rh_scaled_fp8 *out) {
  rh_scaled_fp8 p;
  if (!rh_json_choice(json, "element", rh_fp8_names, 2, &p.element) ||
      !rh_json_integer(json, "group_rows", &p.group_rows) || p.group_rows < 0 ||
      !rh_json_integer(json, "group_cols", &p.group_cols) || p.group_cols < 1 || !rh_json_dynamic(json, &p.dynamic))
    return 0;
  *out = p;
  return 1;
}
static inline int rh_scaled_fp8_print(const rh_scaled_fp8 *p, char *text, size_t size) {
  return snprintf(text, size, "{\"element\": \"%s\", \"group_cols\": %lld, \"group_rows\": %lld%s}",
                  rh_fp8_names[p->element], (long long)p->group_cols, (long long)p->group_rows,
                  rh_dynamic_text(p->dynamic));
}

/* ---- mx/1 ---- */

#define RH_MX_FP4_E2M1 0
#define RH_MX_FP6_E2M3 1
#define RH_MX_FP6_E3M2 2
#define RH_MX_FP8_E4M3 3
#define RH_MX_FP8_E5M2 4
#define RH_MX_INT8 5
#define RH_MX_INT4 6
#define RH_MX_INT2 7
#define RH_MX_ELEMENTS 8
static const char *const rh_mx_names[] = {"fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3",
                                          "fp8_e5m2", "int8",     "int4",     "int2"};

/* How the exponent of an input's group follows from its largest magnitude. */
#define RH_MX_FLOOR 0
#define RH_MX_RCEIL 1
#define RH_MX_RCEIL_V2 2
#define RH_MX_EXPONENTS 3
static const char *const rh_mx_exponents[] = {"floor", "rceil", "rceil_v2"};

typedef struct rh_mx {
  int32_t element; /* RH_MX_* */
  int32_t dynamic; /* RH_INPUT_* */
  int64_t group_cols;
  int32_t exponent; /* inputs: RH_MX_FLOOR and so on */
  int32_t reserved;
} rh_mx;

static inline int rh_mx_parse(const char *json, rh_mx *out) {
  rh_mx p;
  p.exponent = RH_MX_FLOOR;
  p.reserved = 0;
  if (!rh_json_choice(json, "element", rh_mx_names, RH_MX_ELEMENTS, &p.element) ||
      !rh_json_integer(json, "group_cols", &p.group_cols) || p.group_cols < 1 || !rh_json_dynamic(json, &p.dynamic) ||
      (rh_json_member(json, "exponent") &&
       !rh_json_choice(json, "exponent", rh_mx_exponents, RH_MX_EXPONENTS, &p.exponent)))
    return 0;
  *out = p;
  return 1;
}
static inline int rh_mx_print(const rh_mx *p, char *text, size_t size) {
  const char *exponent = p->exponent == RH_MX_FLOOR ? "" : rh_mx_exponents[p->exponent];
  return snprintf(text, size, "{\"element\": \"%s\", \"group_cols\": %lld%s%s%s%s%s}", rh_mx_names[p->element],
                  (long long)p->group_cols, p->dynamic == RH_INPUT_NONE ? "" : ", \"group_rows\": 1",
                  rh_dynamic_text(p->dynamic), *exponent ? ", \"exponent\": \"" : "", exponent, *exponent ? "\"" : "");
}

/* ---- nvfp/1 ---- */

#define RH_NVFP_E4M3 0
#define RH_NVFP_UE5M3 1
static const char *const rh_nvfp_names[] = {"e4m3", "ue5m3"};

typedef struct rh_nvfp {
  int32_t scale;   /* RH_NVFP_*, the element type of the scales */
  int32_t dynamic; /* RH_INPUT_* */
  int64_t group_cols;
} rh_nvfp;

static inline int rh_nvfp_parse(const char *json, rh_nvfp *out) {
  rh_nvfp p;
  if (!rh_json_choice(json, "scale", rh_nvfp_names, 2, &p.scale) ||
      !rh_json_integer(json, "group_cols", &p.group_cols) || p.group_cols < 1 || !rh_json_dynamic(json, &p.dynamic))
    return 0;
  *out = p;
  return 1;
}
static inline int rh_nvfp_print(const rh_nvfp *p, char *text, size_t size) {
  return snprintf(text, size, "{\"scale\": \"%s\", \"group_cols\": %lld%s%s}", rh_nvfp_names[p->scale],
                  (long long)p->group_cols, p->dynamic == RH_INPUT_NONE ? "" : ", \"group_rows\": 1",
                  rh_dynamic_text(p->dynamic));
}

/* ---- ggml-block/1 ---- */

#define RH_GGML_Q4_0 0
#define RH_GGML_Q4_1 1
#define RH_GGML_Q5_0 2
#define RH_GGML_Q5_1 3
#define RH_GGML_Q8_0 4
#define RH_GGML_Q2_K 5
#define RH_GGML_Q3_K 6
#define RH_GGML_Q4_K 7
#define RH_GGML_Q5_K 8
#define RH_GGML_Q6_K 9
#define RH_GGML_TYPES 10
static const char *const rh_ggml_names[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0",
                                            "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"};

typedef struct rh_ggml_block {
  int32_t type; /* RH_GGML_* */
} rh_ggml_block;

static inline int rh_ggml_block_parse(const char *json, rh_ggml_block *out) {
  return rh_json_choice(json, "type", rh_ggml_names, RH_GGML_TYPES, &out->type);
}
static inline int rh_ggml_block_print(const rh_ggml_block *p, char *text, size_t size) {
  return snprintf(text, size, "{\"type\": \"%s\"}", rh_ggml_names[p->type]);
}

#endif /* ROUNDHOUSE_ENCODING_PARAMETERS_H */
