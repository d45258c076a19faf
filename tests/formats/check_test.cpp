// What the formats refuse at plan time, and the reason that they give.
#include "tests/formats/format_fixture.h"

namespace roundhouse::formats {
namespace {

struct Refusal {
  const char* format;
  int bits;
  int64_t rows, cols, group_size;
  bool activation;
  const char* reason;  // a part of the message; "": accepted
};

const Refusal kRefusals[] = {
    {"auto_round", 4, 64, 128, 128, false, ""},
    {"auto_round", 5, 64, 128, -1, false, ""},
    {"auto_round", 4, 64, 64, 128, false, ""},  // a group wider than the layer is one group a row
    {"auto_round", 1, 64, 128, 128, false, "it stores 2, 3, 4, 5, 6, 7, 8 bits, not 1"},
    {"auto_round", 4, 48, 128, 128, false, "multiples of 32, and the weight is [48, 128]"},
    {"auto_round", 4, 64, 172, -1, false, "multiples of 32, and the weight is [64, 172]"},
    {"auto_round", 4, 64, 160, 128, false, "160 is not one of 128"},
    {"auto_round", 4, 64, 128, 128, true, "it stores weights only"},
    {"auto_gptq", 4, 64, 128, 128, false, ""},
    {"auto_gptq", 3, 64, 128, 32, false, ""},
    {"auto_gptq", 5, 64, 128, 128, false, "it stores 2, 3, 4, 8 bits, not 5"},
    {"auto_gptq", 4, 64, 100, 100, false, "multiples of 32"},
    {"auto_gptq", 8, 64, 128, 128, true, "it stores weights only"},
    {"auto_awq", 4, 64, 128, 128, false, ""},
    {"auto_awq", 4, 64, 128, -1, false, ""},
    {"auto_awq", 5, 64, 128, 128, false, "it stores 4 bits, not 5"},
    {"auto_awq", 4, 64, 64, 128, false, "128 is wider than the layer's 64 columns"},
    {"auto_awq", 4, 64, 128, 128, true, "it stores weights only"},
    {"fake", 1, 3, 5, 2, true, ""},
};

TEST(Check, RefusesWithTheReason) {
  const rh_scheme activation{};
  for (const Refusal& r : kRefusals) {
    const FormatPlugin format(r.format);
    const std::string answer =
        check(format, random_layer("model.layers.0.mlp.up_proj", r.bits, r.rows, r.cols, r.group_size, true),
              r.activation ? &activation : nullptr);
    if (*r.reason) {
      EXPECT_NE(answer.find(r.reason), std::string::npos) << r.format << " said: " << answer;
    } else {
      EXPECT_EQ(answer, "") << r.format;
    }
  }
}

TEST(Check, BackendsAreJson) {
  for (const char* name : {"auto_round", "auto_gptq", "auto_awq", "fake"}) {
    const FormatPlugin format(name);
    const auto backends = nlohmann::json::parse(format->backends_json(format.get()));
    ASSERT_FALSE(backends.empty()) << name;
    for (const auto& backend : backends) EXPECT_TRUE(backend.at("engine").is_string()) << name;
  }
}

}  // namespace
}  // namespace roundhouse::formats
