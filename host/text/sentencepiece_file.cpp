// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <tuple>

#include "host/base/error.h"
#include "host/text/base64.h"
#include "host/text/converted_files.h"
#include "host/text/model.h"
#include "host/text/unicode.h"

namespace roundhouse {
namespace {

using nlohmann::json;

const std::string kMark = "\u2581";  // stands for a space

// The fields of a protobuf message, one after the other.
class Message {
 public:
  Message(std::string_view bytes, const std::string& file) : rest_(bytes), file_(file) {}

  struct Field {
    uint64_t number = 0;
    uint64_t value = 0;      // of a varint, or the bits of a fixed number
    std::string_view bytes;  // of what has a length
  };
  bool next(Field& field) {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    field = {tag >> 3, 0, {}};
    switch (tag & 7) {
      case 0:
        field.value = varint();
        return true;
      case 1:
        std::memcpy(&field.value, take(8).data(), 8);
        return true;
      case 2:
        field.bytes = take(varint());
        return true;
      case 5:
        std::memcpy(&field.value, take(4).data(), 4);
        return true;
      default:
        fail("");
    }
  }
  [[noreturn]] void fail(const std::string& why) const {
    throw Error(cat(file_, ": is no SentencePiece model, or damaged", why.empty() ? "" : ": ", why));
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    fail("");
  }
  std::string_view take(uint64_t size) {
    if (size > rest_.size()) fail("it ends early");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  const std::string& file_;
};

// sentencepiece_model.proto's ModelProto, as far as it matters here; its defaults.
struct SentencePieceModel {
  enum Type : uint64_t { kControl = 3, kUserDefined = 4 };
  enum Algorithm : uint64_t { kUnigram = 1, kBpe = 2 };
  struct Piece {
    std::string text;
    float score = 0;
    uint64_t type = 1;
  };
  std::vector<Piece> pieces;
  uint64_t algorithm = kUnigram;
  bool byte_fallback = false, whitespace_suffix = false;
  int64_t unk = 0, bos = 1, eos = 2, pad = -1;  // ids; -1: none
  std::string charsmap;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true;

  SentencePieceModel(const std::string& content, const std::string& file) {
    Message model(content, file);
    Message::Field field, member;
    while (model.next(field)) {
      if (field.number < 1 || field.number > 3) continue;
      Message message(field.bytes, file);
      if (field.number == 1) pieces.emplace_back();
      while (message.next(member)) {
        if (field.number == 1) read_piece(member);
        if (field.number == 2) read_trainer(member);
        if (field.number == 3) read_normalizer(member);
      }
    }
    if (pieces.empty()) model.fail("it has no pieces");
    for (const Piece& piece : pieces)
      if (unicode::replace_invalid(piece.text) != piece.text) model.fail("a piece is not UTF-8");
  }

  // "" when there is none.
  std::string text(int64_t id) const {
    return id < 0 || id >= std::ssize(pieces) ? "" : pieces[static_cast<size_t>(id)].text;
  }

 private:
  void read_piece(const Message::Field& member) {
    Piece& piece = pieces.back();
    if (member.number == 1) piece.text = member.bytes;
    if (member.number == 2) std::memcpy(&piece.score, &member.value, sizeof piece.score);
    if (member.number == 3) piece.type = member.value;
  }
  void read_trainer(const Message::Field& member) {
    const auto id = static_cast<int64_t>(static_cast<int32_t>(member.value));
    if (member.number == 3) algorithm = member.value;
    if (member.number == 24) whitespace_suffix = member.value != 0;
    if (member.number == 35) byte_fallback = member.value != 0;
    if (member.number == 40) unk = id;
    if (member.number == 41) bos = id;
    if (member.number == 42) eos = id;
    if (member.number == 43) pad = id;
  }
  void read_normalizer(const Message::Field& member) {
    if (member.number == 2) charsmap = member.bytes;
    if (member.number == 3) add_dummy_prefix = member.value != 0;
    if (member.number == 4) remove_extra_whitespaces = member.value != 0;
  }
};

size_t characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

// Every way to put a piece together from two others, in the order of the pieces: the trainer appends what it merges.
json merges_of(const Vocabulary& ids) {
  std::vector<std::tuple<int32_t, size_t, json>> merges;  // id and characters of the left one
  for (const auto& [piece, id] : ids) {
    const std::string_view text = piece;
    for (size_t at = 0; at < text.size();) {
      unicode::next(text, at);
      if (at == text.size()) break;
      const auto left = ids.find(text.substr(0, at)), right = ids.find(text.substr(at));
      if (left == ids.end() || right == ids.end()) continue;
      merges.emplace_back(id, characters(left->first), json{left->first, right->first});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const auto& a, const auto& b) {
    return std::tie(std::get<0>(a), std::get<1>(a)) < std::tie(std::get<0>(b), std::get<1>(b));
  });
  json list = json::array();
  for (auto& merge : merges) list.push_back(std::move(std::get<2>(merge)));
  return list;
}

json model_of(const SentencePieceModel& model) {
  if (model.algorithm == SentencePieceModel::kUnigram) {
    json vocab = json::array();
    for (const auto& piece : model.pieces) vocab.push_back({piece.text, static_cast<double>(piece.score)});
    return {{"type", "Unigram"},
            {"vocab", std::move(vocab)},
            {"unk_id", model.unk < 0 ? json() : json(model.unk)},
            {"byte_fallback", model.byte_fallback}};
  }
  Vocabulary ids;
  for (size_t id = 0; id < model.pieces.size(); ++id) ids[model.pieces[id].text] = static_cast<int32_t>(id);
  json vocab = json::object();
  for (const auto& [piece, id] : ids) vocab[piece] = id;
  return {{"type", "BPE"},    {"vocab", std::move(vocab)},          {"merges", merges_of(ids)},
          {"fuse_unk", true}, {"unk_token", model.text(model.unk)}, {"byte_fallback", model.byte_fallback}};
}

}  // namespace

json sentence_pieces(const std::string& content, const std::string& file) {
  json pieces = json::array();
  for (const auto& piece : SentencePieceModel(content, file).pieces)
    pieces.push_back({piece.text, piece.score, piece.type});
  return pieces;
}

ConvertedTokenizer convert_sentence_piece(const std::string& content, const std::string& file, const json& config) {
  const SentencePieceModel model(content, file);
  if (model.algorithm != SentencePieceModel::kUnigram && model.algorithm != SentencePieceModel::kBpe)
    throw Error(cat(file, ": its algorithm is neither Unigram nor BPE"));
  if (model.whitespace_suffix) throw Error(cat(file, ": it puts spaces behind words, which is not supported"));
  ConvertedTokenizer made;
  made.json["model"] = model_of(model);
  json& normalizers = made.json["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array()}};
  if (!model.charsmap.empty())
    normalizers["normalizers"].push_back(
        {{"type", "Precompiled"}, {"precompiled_charsmap", encode_base64(model.charsmap)}});
  if (model.remove_extra_whitespaces)
    normalizers["normalizers"].push_back(
        {{"type", "Replace"}, {"pattern", {{"Regex", R"(\A +| +\z| +(?= ))"}}}, {"content", ""}});
  // "legacy" is transformers' word for a space before every part of a text between special tokens.
  const bool prefix = model.add_dummy_prefix && config.value("add_prefix_space", json()) != false;
  const bool always = model.remove_extra_whitespaces || config.value("legacy", json()) == true;
  made.json["pre_tokenizer"] = {{"type", "Metaspace"},
                                {"replacement", kMark},
                                {"prepend_scheme", !prefix  ? "never"
                                                   : always ? "always"
                                                            : "first"},
                                {"split", false}};
  json decoders = {{{"type", "Replace"}, {"pattern", {{"String", kMark}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}};
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  made.json["decoder"] = {{"type", "Sequence"}, {"decoders", std::move(decoders)}};
  json& added = made.json["added_tokens"] = json::array();
  for (const auto& piece : model.pieces) {
    if (piece.type != SentencePieceModel::kControl && piece.type != SentencePieceModel::kUserDefined) continue;
    added.push_back(added_token(piece.text, piece.type == SentencePieceModel::kControl));
    added.back()["normalized"] = false;
  }
  const std::pair<const char*, int64_t> roles[] = {
      {"unk_token", model.unk}, {"bos_token", model.bos}, {"eos_token", model.eos}, {"pad_token", model.pad}};
  for (const auto& [role, id] : roles)
    if (const std::string text = model.text(id); !text.empty()) made.config[role] = text;
  return made;
}

}  // namespace roundhouse
