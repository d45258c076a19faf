// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/file_type.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

// The usual one of a base comes first.
constexpr FileType kFileTypes[] = {
    {"F32", 0, "f32"},      {"F16", 1, "f16"},      {"BF16", 32, "bf16"},     {"Q4_0", 2, "q4_0"},
    {"Q4_1", 3, "q4_1"},    {"Q5_0", 8, "q5_0"},    {"Q5_1", 9, "q5_1"},      {"Q8_0", 7, "q8_0"},
    {"Q2_K", 10, "q2_k"},   {"Q2_K_S", 21, "q2_k"}, {"Q3_K_M", 12, "q3_k"},   {"Q3_K_S", 11, "q3_k"},
    {"Q3_K_L", 13, "q3_k"}, {"Q4_K_M", 15, "q4_k"}, {"Q4_K_S", 14, "q4_k"},   {"Q5_K_M", 17, "q5_k"},
    {"Q5_K_S", 16, "q5_k"}, {"Q6_K", 18, "q6_k"},   {kExpertMix, 21, "q2_k"},
};

// A tensor's place in the model, as the mixes see it.
struct Place {
  std::string role;  // "attn_v", "ffn_down", "output", "token_embd", ...
  int64_t block, blocks;
  int64_t value, values;  // place among the blocks with attention's values, and how many those are
  int64_t sharing;        // query heads a key and value head
  bool large;             // llama.cpp's 70B class, where attn_v is small beside the rest
  bool eight;             // experts, beside which attention is small
};

// The blocks that the _M mixes give more bits: the first and the last eighth, and each third between.
bool more_bits(int64_t block, int64_t blocks) {
  const int64_t eighth = blocks / 8;
  return block < eighth || block >= 7 * blocks / 8 || (block - eighth) % 3 == 2;
}

// Attention's values, alone or with others.
bool has_values(const std::string& role) { return role == "attn_v" || role == "attn_qkv"; }

std::string value_type(std::string_view mix, const Place& p, const std::string& base) {
  if (mix == "Q2_K") return p.sharing >= 4 ? "q4_k" : "q3_k";
  if (mix == "Q2_K_S" && p.sharing >= 4) return "q4_k";
  if (mix == "Q3_K_M") return p.value < 2 ? "q5_k" : "q4_k";
  if (mix == "Q3_K_L") return "q5_k";
  if ((mix == "Q4_K_M" || mix == "Q5_K_M") && more_bits(p.value, p.values)) return "q6_k";
  if (mix == "Q4_K_S" && p.value < 4) return "q5_k";
  return base;
}

std::string down_type(std::string_view mix, const Place& p, const std::string& base) {
  if (mix == "Q2_K") return "q3_k";
  if (mix == "Q2_K_S" && p.block < p.blocks / 8) return "q4_k";
  if (mix == "Q3_K_M") return p.block < p.blocks / 16 ? "q5_k" : "q4_k";
  if (mix == "Q3_K_L") return "q5_k";
  if ((mix == "Q4_K_M" || mix == "Q5_K_M") && more_bits(p.block, p.blocks)) return "q6_k";
  if (mix == "Q4_K_S" && p.block < p.blocks / 8) return "q5_k";
  return base;
}

std::string expert_mix_type(const Place& p) {
  if (p.role == "output" || p.role == "token_embd") return "q8_0";
  return p.role.ends_with("_exps") ? "q2_k" : "q4_k";
}

// llama.cpp's choice for a tensor, without an importance matrix (src/llama-quant.cpp).
std::string mixed_type(const FileType& type, const Place& p) {
  const std::string_view mix = type.name;
  if (mix == kExpertMix) return expert_mix_type(p);
  const std::string base = type.base;
  if (p.role == "output") return base == "q8_0" ? base : "q6_k";
  if (p.eight && (has_values(p.role) || p.role == "attn_k")) return "q8_0";
  if (has_values(p.role)) {
    const std::string chosen = value_type(mix, p, base);
    return p.large && (chosen == "q3_k" || chosen == "q4_k") ? "q5_k" : chosen;
  }
  if (p.role.starts_with("ffn_down")) return down_type(mix, p, base);
  if (p.role == "attn_output") {
    if (p.eight && (mix == "Q2_K" || mix == "Q3_K_S" || mix == "Q3_K_M" || mix == "Q4_K_S" || mix == "Q4_K_M"))
      return "q5_k";
    if (mix == "Q2_K") return "q3_k";
    if (mix == "Q3_K_M") return "q4_k";
    if (mix == "Q3_K_L") return "q5_k";
  }
  return base;
}

// What `wanted` becomes for rows that are not whole blocks of it.
Json fitting(const std::string& wanted, int64_t cols) {
  std::string name = wanted;
  if (cols % ggml_type(name)->cols != 0) name = name == "q6_k" ? "q8_0" : "q5_0";
  if (cols % ggml_type(name)->cols != 0)
    return {{"bits", 16}, {"reason", cat(cols, " columns are no multiple of 32, so it stays as it is")}};
  if (name == wanted) return {{"data_type", wanted}};
  return {{"data_type", name}, {"reason", cat(cols, " columns are no multiple of 256, so not ", wanted)}};
}

}  // namespace

const FileType& file_type(const std::string& name) {
  for (const FileType& type : kFileTypes)
    if (name == type.name) return type;
  throw rh::Error(RH_INVALID_ARGUMENT, cat("the file_type ", name, " is none of ", file_type_names()));
}

const FileType* file_type_of(int64_t id) {
  const auto* found =
      std::find_if(std::begin(kFileTypes), std::end(kFileTypes), [&](const FileType& type) { return type.id == id; });
  return found == std::end(kFileTypes) ? nullptr : found;
}

const FileType* usual_file_type(const std::string& base) {
  for (const FileType& type : kFileTypes)
    if (base == type.base) return &type;
  return nullptr;
}

std::string file_type_names() {
  Json names = Json::array();
  for (const FileType& type : kFileTypes) names.push_back(type.name);
  return names.dump();
}

const FileType* chosen_file_type(const Json& options, const Json& data_type) {
  if (!options.contains("file_type"))
    return data_type.is_string() ? usual_file_type(data_type.get<std::string>()) : nullptr;
  rh::require(options.at("file_type").is_string(), "file_type is not a text");
  return &file_type(options.at("file_type"));
}

void require_base(const FileType& type, const Json& data_type) {
  const bool quantized = data_type.is_string(), wants_quantized = ggml_type(type.base)->quantized();
  rh::require(wants_quantized ? quantized && data_type == type.base : !quantized,
              cat("file_type ", type.name, " consists of ", type.base, ", but the recipe's scheme is ",
                  quantized ? data_type.get<std::string>() : "16 bits",
                  wants_quantized ? cat("; write scheme: {data_type: ", type.base, "}")
                                  : std::string("; write scheme: {bits: 16}")));
}

nlohmann::json assign_types(const FileType& type, const Json& layers, const Json& architecture) {
  const Names names(architecture);
  names.require_known();
  nlohmann::json assigned = nlohmann::json::object();  // Json looks keys up one by one, and layers are many
  if (!ggml_type(type.base)->quantized()) return assigned;
  const int64_t blocks = architecture.at("blocks"), heads = architecture.at("heads");
  const int64_t kv_heads = architecture.at("kv_heads");
  const bool tied = architecture.at("tied_head");
  const bool has_70b = (names.architecture() == "llama" && heads != kv_heads) || names.architecture() == "qwen2";
  const bool eight = architecture.contains("experts") && architecture.at("experts").at("count") == 8;
  const auto role_of = [](const std::string& stored) { return stored.substr(stored.rfind('.') + 1); };
  const auto block_of = [](const std::string& stored) {
    return stored.starts_with("blk.") ? std::stoll(stored.substr(4)) : 0;
  };
  std::set<int64_t> values;  // blocks
  for (const Json& layer : layers)
    if (const std::string stored = names.to_gguf(layer.at("name")).value_or(""); has_values(role_of(stored)))
      values.insert(block_of(stored));
  for (const Json& layer : layers) {
    const std::string stored = names.to_gguf(layer.at("name")).value_or("");
    const int64_t block = block_of(stored);
    const int64_t value = std::distance(values.begin(), values.lower_bound(block));
    Place place{role_of(stored),         block, blocks, value, static_cast<int64_t>(values.size()), heads / kv_heads,
                blocks == 80 && has_70b, eight};
    if (const Layout* const layout = names.layout(stored, 0); layout && layout->transposed) {
      assigned[layer.at("name").get<std::string>()] = {
          {"bits", 16}, {"reason", "llama.cpp wants a part of it transposed, so it stays as it is"}};
      continue;
    }
    if (tied && place.role == "output") continue;  // the embedding is both
    if (tied && place.role == "token_embd") place.role = "output";
    const Layout* const columns = names.column_layout(stored);
    assigned[layer.at("name").get<std::string>()] =
        fitting(mixed_type(type, place), columns ? columns->parts[0] : layer.at("cols").get<int64_t>());
  }
  return assigned;
}

}  // namespace roundhouse::formats
