// SPDX-License-Identifier: Apache-2.0
#include "host/jinja/template.h"

#include "host/jinja/interpreter.h"
#include "host/jinja/parser.h"

namespace roundhouse::jinja {

struct Template::Parsed {
  Syntax syntax;
};

Template::Template(std::string_view source) : parsed_(new Parsed{parse(source)}) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

std::string Template::render(const nlohmann::ordered_json& variables, std::chrono::year_month_day date,
                             const RenderLimits& limits) const {
  const auto dict = Value::from_json(variables).dict();
  const auto weight = static_cast<int64_t>(dict->extent.weight);
  return Interpreter(parsed_->syntax, date, Budget(limits.steps + 64 * weight, limits.bytes + 64 * weight)).run(*dict);
}

}  // namespace roundhouse::jinja
