// SPDX-License-Identifier: Apache-2.0
// Regular expressions of a checkpoint's configuration, as Python's `re` reads them: its engines are written in it.
#pragma once

#include <memory>
#include <string>

namespace roundhouse::formats {

class Pattern {
 public:
  // Throws rh::Error (RH_DATA_LOSS), with the expression and what is wrong with it.
  explicit Pattern(const std::string& expression);

  // re.match() finds it: it matches from the text's beginning on.
  bool begins(const std::string& text) const { return matched(text, true); }
  // re.search() finds it.
  bool found_in(const std::string& text) const { return matched(text, false); }

 private:
  bool matched(const std::string& text, bool from_the_beginning) const;

  std::string expression_;
  std::shared_ptr<void> program_;
};

}  // namespace roundhouse::formats
