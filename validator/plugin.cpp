// SPDX-License-Identifier: Apache-2.0
#include "validator/plugin.h"

#include <dlfcn.h>
#include <malloc.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "validator/services.h"

namespace roundhouse::validator {
namespace {

constexpr unsigned char kUntouched = 0xaa;
constexpr size_t kLongestText = 1 << 16;

size_t entries(const char* folder) {
  return static_cast<size_t>(
      std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

template <typename Item, typename Factory>
std::vector<const Item*> items(const Factory* factory) {
  std::vector<const Item*> out;
  if (!factory) return out;
  const uint32_t count = factory->count();
  for (uint32_t i = 0; i < count && i < 1000; ++i) out.push_back(factory->get(i));
  return out;
}

}  // namespace

const rh_entry* load_plugin(const std::filesystem::path& file) {
  at("dlopen");
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) fail("dlopen", "a shared object that loads", ::dlerror());
  void* symbol = ::dlsym(library, RH_ENTRY_SYMBOL);
  expect(symbol, "dlsym", "the symbol " RH_ENTRY_SYMBOL, "no such symbol: it is no Roundhouse plugin");
  return guarded(RH_ENTRY_SYMBOL, [&] {
    const rh_entry* entry = reinterpret_cast<const rh_entry* (*)(void)>(symbol)();
    expect(entry, RH_ENTRY_SYMBOL, "an rh_entry", "NULL");
    return entry;
  });
}

Started::Started(const std::filesystem::path& file, const rh_host* host) : entry_(load_plugin(file)) {
  ErrorSlot error;
  const rh_code code = guarded("init", [&] { return entry_->init(host ? host : test_host(), error.get()); });
  expect(code == RH_OK, "init", "RH_OK", text("code ", code, ": ", printable(error.get()->message)));
}

Started::~Started() {
  at("deinit");
  entry_->deinit();
}

const rh_dtype_factory* Started::dtype_factory() const {
  return guarded("get_factory",
                 [&] { return static_cast<const rh_dtype_factory*>(entry_->get_factory(RH_DTYPE_FACTORY)); });
}

const rh_format_factory* Started::format_factory() const {
  return guarded("get_factory",
                 [&] { return static_cast<const rh_format_factory*>(entry_->get_factory(RH_FORMAT_FACTORY)); });
}

std::vector<const rh_dtype*> Started::dtypes() const {
  auto out = items<rh_dtype>(dtype_factory());
  if (out.empty()) throw Skip{"the plugin has no data type"};
  return out;
}

std::vector<const rh_format*> Started::formats() const {
  auto out = items<rh_format>(format_factory());
  if (out.empty()) throw Skip{"the plugin has no format"};
  return out;
}

Leftovers leftovers;

Watch::~Watch() {
  std::vector<Leftover> all = process_.restore();
  if (FloatEnvironment::now() != floats_) {
    floats_.restore();
    all.push_back({"", "changes the floating-point environment (rounding, denormals or traps)"});
  }
  if (all.empty() || !leftovers.text.empty()) return;
  leftovers.where = where_;
  leftovers.text = all.front().text;
}

void expect_nothing_left() {
  expect(leftovers.text.empty(), leftovers.where, "process and thread as they were", leftovers.text);
}

ErrorSlot::ErrorSlot() { std::memset(&error_, kUntouched, sizeof error_); }

void ErrorSlot::check(rh_code code, const std::string& where) const {
  if (code == RH_OK) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&error_);
    const bool same = std::all_of(bytes, bytes + sizeof error_, [](unsigned char b) { return b == kUntouched; });
    expect(same, where, "after RH_OK, rh_error as it was", "the plugin wrote into it");
    return;
  }
  expect(code >= RH_CANCELLED && code <= RH_DATA_LOSS, where, "a code of abi.h", text("code ", code));
  expect(error_.code == code, where, text("rh_error.code is what is returned: ", code), text(error_.code));
  const size_t size = strnlen(error_.message, sizeof error_.message);
  expect(size < sizeof error_.message, where, "a message that ends with a NUL within 508 bytes", "no NUL");
  expect(size > 0, where, "a message that says what went wrong", text("code ", code, " with an empty message"));
  const std::string message = error_.message;
  // A message may be cut in the middle of a character.
  bool valid = is_utf8(message);
  for (size_t cut = 1; cut < 4 && !valid && size > 500; ++cut) valid = is_utf8(message.substr(0, size - cut));
  expect(valid, where, "a message in UTF-8", printable(error_.message));
}

size_t thread_count() { return entries("/proc/self/task"); }
size_t descriptor_count() { return entries("/proc/self/fd"); }

size_t allocated_bytes() {
  ::mallopt(M_MXFAST, 0);  // small blocks count as free at once
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

std::string printable(const char* text) {
  if (!text) return "NULL";
  std::string out = "\"";
  for (size_t i = 0; i < 300 && text[i]; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    out += c < ' ' || c == 0x7f ? '?' : static_cast<char>(c);
  }
  return out + "\"";
}

bool is_utf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const size_t more = c < 0x80 ? 0 : (c >> 5) == 6 ? 1 : (c >> 4) == 14 ? 2 : (c >> 3) == 30 ? 3 : 9;
    if (more == 9 || i + more >= text.size() + (more == 0 ? 1 : 0)) return false;
    for (size_t k = 1; k <= more; ++k)
      if ((static_cast<unsigned char>(text[i + k]) >> 6) != 2) return false;
    i += more + 1;
  }
  return true;
}

std::string checked_text(const char* text, const std::string& what) {
  at(what);
  expect(text, what, "a string", "NULL");
  expect(strnlen(text, kLongestText) < kLongestText, what, "a NUL-terminated string", "no NUL in 64 KiB");
  expect(is_utf8(text), what, "UTF-8", printable(text));
  return text;
}

}  // namespace roundhouse::validator
