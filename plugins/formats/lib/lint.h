// SPDX-License-Identifier: Apache-2.0
// What engines look up in a folder of safetensors, and would refuse or silently misread. docs/formats.md has the table.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "plugins/formats/lib/layer_reader.h"

namespace roundhouse::formats {

// The engines that fuse layers side by side.
constexpr const char* kVllm = "vllm";
constexpr const char* kSglang = "sglang";
constexpr const char* kTransformers = "transformers";
constexpr const char* kEvery = "";

// The last parts of the names, which are the roles, of layers that those engines fuse into one.
const std::vector<std::vector<std::string>>& fused_roles();
// The name of the layer that they become: "qkv_proj"; "" where the engine looks for the members' names alone.
std::string fused_name(const std::vector<std::string>& roles);
// backends_json with "fuses" for the engines that fuse.
std::string with_fuses(const char* backends);

// Findings of the same kind about several modules become one, which names the first.
class Findings {
 public:
  // "model.layers.0.mlp.up_proj (and 3 others): what", or only what where there is no module.
  void add(int32_t severity, const char* engine, const std::string& file, const std::string& module,
           const std::string& what, const std::string& advice);
  void error(const char* engine, const std::string& file, const std::string& what, const std::string& advice) {
    add(RH_FINDING_ERROR, engine, file, "", what, advice);
  }
  bool any_error() const;
  std::vector<rh::Finding> take() const;

 private:
  struct Kind {
    rh::Finding finding;
    std::string module;
    size_t others = 0;
  };
  std::vector<Kind> kinds_;
};

// A key of quantization_config, with a type of JSON in words: "a number", "a text", "true or false", "a list", "an
// object". When it is missing or of another type, adds an error.
void require_key(Findings& findings, const Json& json, const char* engine, const std::string& key, const char* type,
                 const std::string& path = "quantization_config");

// What the configuration says of a module.
struct Said {
  bool quantized = false;
  std::string why = {};     // in words that follow "but": "`ignore` does not name it"
  std::string scheme = {};  // "4 bits in groups of 128, symmetric"; equal for modules that are quantized alike
  std::vector<std::string> needs = {};   // the tensors of a packed module; "a|b": either of them
  std::vector<std::string> allows = {};  // further ones
  // Of integers whose tensors tell it too; bits 0: they do not. group_size -1: one group a row.
  int bits = 0;
  int64_t group_size = 0;
  bool symmetric = false;
  std::string refused = {};  // what of it no kernel of transformers takes: "bits is 3, and nv_fp has 4"
  bool named = false;        // the module itself is named, so that engines look for a packed one wherever it is
};

struct Lint {
  const rh_open& source;
  const Json& config;       // config.json
  bool fuses = true;        // engines of the format fuse layers
  bool wants_head = false;  // transformers converts an output head too unless the configuration says otherwise
  std::string advice = {};  // for a module that the configuration should name: "Add its name to `ignore`"
  std::function<Said(const std::string& module)> said;
  // What vLLM finds for a fused layer, one of whose members is `member`, where it looks for its name; may be empty.
  std::function<Said(const std::string& fused, const std::string& member)> said_of_fused = {};
  LayerReader::MakeLayer make;  // throws rh::Error for tensors that do not fit together
};

// Adds what is wrong with the folder's modules, its index, and its tied head. Throws rh::Error where damage hides it.
void lint_modules(const Lint& lint, Findings& findings);

// The number or text under `key`, `otherwise` where there is none of that type.
int64_t number_at(const Json& json, const char* key, int64_t otherwise);
bool flag_at(const Json& json, const char* key, bool otherwise);
// The texts of a list, at any depth, or the one text.
std::vector<std::string> texts_at(const Json& json, const char* key);

// The number of a block in front of a name's part; -1: there is none, or one beyond what blocks are counted with.
int64_t number_in_front(const std::string& text);

// What a configuration says of a layer in qweight, qzeros and scales.
Said int_said(int bits, int64_t group_size, bool symmetric);

}  // namespace roundhouse::formats
