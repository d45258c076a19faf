// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/sentencepiece.h"

#include <cstring>
#include <roundhouse/plugin.hpp>
#include <string_view>

namespace roundhouse::formats {
namespace {

// Fields of a protobuf message, one after the other.
class Message {
 public:
  Message(std::string_view bytes, const std::string& path) : rest_(bytes), path_(path) {}

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
        fail();
    }
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    fail();
  }
  std::string_view take(uint64_t size) {
    if (size > rest_.size()) fail();
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  [[noreturn]] void fail() const { throw rh::Error(RH_DATA_LOSS, path_ + " is no SentencePiece model, or damaged"); }

  std::string_view rest_;
  const std::string& path_;
};

}  // namespace

std::vector<SentencePiece> parse_sentence_pieces(const std::string& bytes, const std::string& path) {
  std::vector<SentencePiece> pieces;
  Message model(bytes, path);
  Message::Field field, member;
  while (model.next(field)) {
    if (field.number != 1) continue;  // pieces; the rest is how it was trained
    SentencePiece& piece = pieces.emplace_back();
    Message message(field.bytes, path);
    while (message.next(member)) {
      if (member.number == 1) piece.text = member.bytes;
      if (member.number == 2) std::memcpy(&piece.score, &member.value, sizeof piece.score);
      if (member.number == 3 && member.value >= 1 && member.value <= 6)
        piece.type = static_cast<TokenType>(member.value);
    }
  }
  return pieces;
}

}  // namespace roundhouse::formats
