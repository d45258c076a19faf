// SPDX-License-Identifier: Apache-2.0
// Templates in Jinja2's language, as transformers renders chat templates: trim_blocks, lstrip_blocks, the immutable
// sandbox, break and continue, {% generation %}. Rendering reads nothing but its variables and is bounded in steps,
// memory and depth, so that a template from anywhere can be run.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace roundhouse::jinja {

struct RenderLimits {
  int64_t steps = 5'000'000;         // statements, expressions, and elements that they touch
  int64_t bytes = int64_t{1} << 28;  // of all texts and lists that are made on the way, beyond 64 times the variables
};

// Immutable; may be rendered from any thread. Left out of Jinja2's language: include, import, extends, block, recursive
// loops, and filters that no chat template has a use for (urlize, xmlattr, ...). Whole numbers have 64 bits.
class Template {
 public:
  // Throws Error "line N: ..." for what cannot be parsed.
  explicit Template(std::string_view source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // `variables` is an object. strftime_now() tells `date`, at midnight. Throws Error "line N: ..." for what goes wrong,
  // raise_exception() of the template included.
  std::string render(const nlohmann::ordered_json& variables, std::chrono::year_month_day date,
                     const RenderLimits& limits = {}) const;

 private:
  struct Parsed;
  std::unique_ptr<const Parsed> parsed_;
};

}  // namespace roundhouse::jinja
