// SPDX-License-Identifier: Apache-2.0
#include "host/text/make_model.h"

#include "host/text/bpe.h"
#include "host/text/unigram.h"
#include "host/text/word_model.h"

namespace roundhouse {
namespace {

// Old files do not name the type; then the keys tell.
std::string type_of(const Component& model) {
  const nlohmann::json& json = model.json();
  if (!model.type().empty()) return model.type();
  if (json.contains("merges")) return "BPE";
  if (json.contains("max_input_chars_per_word")) return "WordPiece";
  if (json.contains("vocab") && json["vocab"].is_array()) return "Unigram";
  return json.contains("vocab") ? "WordLevel" : "";
}

}  // namespace

std::unique_ptr<const TokenModel> make_model(const Component& component) {
  const std::string type = type_of(component);
  if (type == "BPE") return std::make_unique<Bpe>(component);
  if (type == "Unigram") return std::make_unique<Unigram>(component);
  if (type == "WordPiece") return std::make_unique<WordPiece>(component);
  if (type == "WordLevel") return std::make_unique<WordLevel>(component);
  component.unsupported("BPE, Unigram, WordPiece and WordLevel");
}

}  // namespace roundhouse
