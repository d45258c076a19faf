// SPDX-License-Identifier: Apache-2.0
// A template and its rendering.
#include "host/jinja/template.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace roundhouse;
  static const auto variables = nlohmann::ordered_json::parse(R"({
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Tell me, 1 < 2?"},
                 {"role": "assistant", "content": null, "tool_calls": [{"name": "f", "arguments": {"x": 1.5}}]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "bos_token": "<s>", "add_generation_prompt": true, "n": 7})");
  return fuzz::expect_result_or_exception([&] {
    jinja::Template(fuzz::text(data, size))
        .render(variables, std::chrono::July / 26 / 2024, {.steps = 20'000, .bytes = 1 << 22});
  });
}
