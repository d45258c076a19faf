// SPDX-License-Identifier: Apache-2.0
// A JSON object of many members.
#pragma once

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "plugins/formats/lib/checkpoint.h"

namespace roundhouse::formats {

// Members stay in the order in which they are added, as in Json, which walks through all of them for each access.
class JsonObject {
 public:
  Json& operator[](const std::string& key) {
    const auto [place, is_new] = places_.try_emplace(key, members_.size());
    if (is_new) members_.emplace_back(key, Json());
    return members_[place->second].second;
  }
  // nullptr when there is none.
  const Json* find(const std::string& key) const {
    const auto place = places_.find(key);
    return place == places_.end() ? nullptr : &members_[place->second].second;
  }
  const std::vector<std::pair<std::string, Json>>& members() const { return members_; }
  bool empty() const { return members_.empty(); }

  Json take() {
    Json::object_t object;
    object.reserve(members_.size());
    for (auto& [key, value] : members_) object.emplace_back(key, std::move(value));
    *this = {};
    return object;
  }

 private:
  std::vector<std::pair<std::string, Json>> members_;
  std::unordered_map<std::string, size_t> places_;
};

}  // namespace roundhouse::formats
