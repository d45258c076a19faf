// SPDX-License-Identifier: Apache-2.0
#include "host/recipe/layer_pattern.h"

#include <gtest/gtest.h>

#include "host/base/error.h"

namespace roundhouse {
namespace {

TEST(LayerPattern, ANameMatchesItselfAlone) {
  const LayerPattern pattern("model.layers.0.mlp.up_proj");
  EXPECT_FALSE(pattern.is_regex());
  EXPECT_TRUE(pattern.matches("model.layers.0.mlp.up_proj"));
  EXPECT_FALSE(pattern.matches("model.layers.0.mlp.up_proj2"));
  EXPECT_FALSE(pattern.matches("modelxlayers.0.mlp.up_proj"));
}

TEST(LayerPattern, AnExpressionCoversTheWholeName) {
  EXPECT_TRUE(LayerPattern("re:.*\\.down_proj").matches("model.layers.11.mlp.down_proj"));
  EXPECT_FALSE(LayerPattern("re:down_proj").matches("model.layers.11.mlp.down_proj"));
  EXPECT_FALSE(LayerPattern("re:model").matches("model.layers.11.mlp.down_proj"));
  EXPECT_TRUE(LayerPattern("re:a|ab").matches("ab"));  // the shorter branch matches first, but not all
  EXPECT_FALSE(LayerPattern("re:a|b").matches("ab"));
  EXPECT_FALSE(LayerPattern("re:lm_head").matches("lm_head\n"));
  EXPECT_FALSE(LayerPattern("re:").matches("lm_head"));
}

TEST(LayerPattern, HasPythonsSyntax) {
  EXPECT_TRUE(LayerPattern("re:(?i)LM_HEAD").matches("lm_head"));
  EXPECT_TRUE(LayerPattern("re:.*(?<!down)_proj").matches("mlp.up_proj"));
  EXPECT_FALSE(LayerPattern("re:.*(?<!down)_proj").matches("mlp.down_proj"));
  EXPECT_TRUE(LayerPattern("re:.*\\.(?:[0-2]|1\\d)\\..*").matches("model.layers.12.mlp.up_proj"));
  EXPECT_TRUE(LayerPattern("re:(?P<x>a)(?P=x)").matches("aa"));
}

TEST(LayerPattern, ABadExpressionIsRefusedWithItsReason) {
  for (const auto& [text, reason] : {std::pair{"re:(", "end pattern with unmatched parenthesis"},
                                     {"re:a)(?:b", "unmatched close parenthesis"},
                                     {"re:[", "premature end of char-class"},
                                     {"re:*", "target of repeat operator is not specified"}}) {
    try {
      LayerPattern pattern(text);
      FAIL() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.what(), cat("is not a regular expression: ", reason)) << text;
    }
  }
}

TEST(LayerPattern, RunawayBacktrackingIsAnError) {
  EXPECT_THROW(LayerPattern("re:(a|a|b)*(a|a|b)*c").matches(std::string(64, 'a')), Error);
}

}  // namespace
}  // namespace roundhouse
