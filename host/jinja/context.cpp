// SPDX-License-Identifier: Apache-2.0
#include "host/jinja/context.h"

#include "host/jinja/python_text.h"

namespace roundhouse::jinja {

Context::~Context() {
  for (const auto& held : namespaces_) held->attributes.clear();
}

Value Context::made(std::string text) {
  budget_.spend_bytes(text.size() + sizeof(Value));
  return text;
}

Value Context::made(std::vector<Value> items, bool tuple) {
  budget_.spend_bytes((items.size() + 2) * sizeof(Value));
  budget_.spend_steps(items.size());
  return Value::list(std::move(items), tuple);
}

Value Context::made_dict(std::vector<std::pair<Value, Value>> entries) {
  budget_.spend_bytes((entries.size() + 1) * 2 * sizeof(Value));
  budget_.spend_steps(entries.size());
  return Value::dict(std::move(entries));
}

Value Context::made_namespace(std::vector<std::pair<std::string, Value>> attributes) {
  budget_.spend_bytes((attributes.size() + 1) * 2 * sizeof(Value));
  namespaces_.push_back(std::make_shared<Namespace>(Namespace{std::move(attributes)}));
  return namespaces_.back();
}

Items Context::items(const Value& value) {
  if (const auto list = value.list()) return Items(list);
  std::vector<Value> items;
  if (const auto dict = value.dict()) {
    for (const auto& [key, item] : dict->entries) items.push_back(key);
  } else if (const std::string* text = value.text()) {
    for (const char32_t c : decode_utf8(*text)) {
      std::string character;
      append_utf8(character, c);
      items.push_back(made(std::move(character)));
    }
  } else if (!value.is_undefined()) {
    value.fail("be iterated over");
  }
  return Items(made(std::move(items)).list());
}

std::string Context::text(const Value& value) {
  if (const std::string* text = value.text()) return *text;
  // Beyond the texts themselves a printed value has little: quotes, escapes, numbers.
  budget_.spend_bytes(4 * value.extent().weight);
  return value.str();
}

}  // namespace roundhouse::jinja
