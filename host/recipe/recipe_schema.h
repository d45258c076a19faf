// SPDX-License-Identifier: Apache-2.0
// The JSON Schema of recipes, for editors and for programs that write them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace roundhouse {

// What is there to be named in a recipe.
struct RecipeNames {
  struct Named {
    std::vector<std::string> names;  // the id, then its aliases
    nlohmann::json options;          // the JSON Schema of its options
  };
  std::vector<std::string> presets, architectures;
  std::vector<Named> dtypes, formats;
};

// Draft 7. What needs the model or another file is not in it: that a file is there, that a layer has a name.
nlohmann::ordered_json recipe_schema(const RecipeNames& names);

}  // namespace roundhouse
