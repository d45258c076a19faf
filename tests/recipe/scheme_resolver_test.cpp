// SPDX-License-Identifier: Apache-2.0
// From a data type's name and fields to a plugin's id and scheme.
#include "host/plan/scheme_resolver.h"

#include "host/abi/views.h"
#include "tests/plugins/sandbox.h"

namespace roundhouse {
namespace {

using nlohmann::json;

class Resolve : public Sandbox {
 protected:
  Resolve() : catalogue_(discover_in(install("a", {"good", "other"}))) {}

  TensorScheme resolve(const std::string& name, json said = json::object(), json assumed = json::object(),
                       Rounding rounding = Rounding::kTuned) {
    return resolve_dtype(catalogue_, {name, std::move(said), std::move(assumed), rounding});
  }
  std::string failure(const std::string& name, json said = json::object()) {
    return error_of([&] { resolve(name, std::move(said)); });
  }

  Catalogue catalogue_;
};

TEST_F(Resolve, IdTakesFieldsFromUserThenPreset) {
  const TensorScheme scheme = resolve("fixture", {{"bits", 3}, {"group_size", {16, 32}}, {"scale_dtype", "bfloat16"}},
                                      {{"bits", 4}, {"group_size", 64}, {"sym", false}});
  EXPECT_EQ(scheme.dtype, "fixture");
  EXPECT_EQ(scheme.bits, 3);
  EXPECT_FALSE(scheme.symmetric);
  EXPECT_EQ(scheme.group_rows, 16);
  EXPECT_EQ(scheme.group_cols, 32);
  EXPECT_EQ(scheme.scale_dtype, DType::kBF16);
  EXPECT_EQ(scheme.rounding, Rounding::kTuned);
}

TEST_F(Resolve, AliasFieldsOverrideThePreset) {
  const TensorScheme scheme = resolve("fixture_alias", {{"group_size", -1}}, {{"bits", 4}, {"sym", true}});
  EXPECT_EQ(scheme.dtype, "fixture");
  EXPECT_EQ(scheme.bits, 8);
  EXPECT_FALSE(scheme.symmetric);
  EXPECT_EQ(scheme.group_cols, RH_GROUP_ROW);
  EXPECT_EQ(resolve("fixture_alias", {{"bits", 8}}).bits, 8);
}

TEST_F(Resolve, ContradictingAnAliasIsAnError) {
  EXPECT_EQ(failure("fixture_alias", {{"sym", true}}),
            "data type fixture_alias means fixture with sym false, but sym true was asked for");
}

TEST_F(Resolve, AnAliasDecidesTheRounding) {
  EXPECT_EQ(resolve("rtn_fixture_plain").rounding, Rounding::kPlain);
  EXPECT_EQ(resolve("fixture", {{"search", true}}).rounding, Rounding::kSearch);
}

TEST_F(Resolve, StemsAreCompletedWithBitsAndSymmetry) {
  EXPECT_EQ(resolve("fixture_8bit", {{"bits", 8}, {"sym", false}}).dtype, "fixture");
  EXPECT_CONTAINS(failure("fixture_8bit", {{"bits", 8}, {"sym", true}}), "no plugin offers");
  EXPECT_CONTAINS(failure("fixture_8bit", {{"bits", 4}, {"sym", false}}), "no plugin offers");
}

TEST_F(Resolve, StemsWithRtnCountOnlyWithoutTuning) {
  EXPECT_EQ(resolve("fixture_plain", {}, {}, Rounding::kPlain).dtype, "fixture");
  EXPECT_EQ(resolve("fixture_plain", {}, {}, Rounding::kSearch).rounding, Rounding::kPlain);
  EXPECT_CONTAINS(failure("fixture_plain"), "no plugin offers the data type \"fixture_plain\"");
}

TEST_F(Resolve, ExactIdWinsOverAliasesOfOthers) { EXPECT_EQ(resolve("other").dtype, "other"); }

TEST_F(Resolve, WrongFieldsAreNamed) {
  EXPECT_EQ(failure("fixture", {{"bit", 4}}), "scheme: there is no field \"bit\" (did you mean bits?)");
  EXPECT_EQ(failure("fixture", {{"bits", 4.5}}), "scheme: bits: 4.5 is not a whole number");
  EXPECT_EQ(failure("fixture", {{"sym", 1}}), "scheme: sym: 1 is neither true nor false");
  EXPECT_EQ(failure("fixture", {{"group_size", {0, 4}}}), "scheme: group_size: [0,4] is no size of a group");
  EXPECT_EQ(failure("fixture", {{"group_size", -2}}), "scheme: group_size: -2 is no size of a group");
  EXPECT_CONTAINS(failure("fixture", {{"scale_dtype", "float12"}}), "scale_dtype: the element type float12 is unknown");
}

TEST_F(Resolve, WhatNobodySaysHasTheDefaults) {
  const TensorScheme scheme = resolve("fixture");
  EXPECT_EQ(scheme.bits, 4);
  EXPECT_EQ(scheme.group_cols, 128);
  EXPECT_TRUE(scheme.symmetric);
  EXPECT_FALSE(scheme.scale_dtype.has_value());
}

TEST_F(Resolve, SchemeOfBothSides) {
  const auto resolve = [&](json said, json assumed = json::object()) {
    return resolve_scheme(catalogue_, said, assumed, Rounding::kTuned);
  };
  const json preset{{"data_type", "fixture"}, {"bits", 4}, {"group_size", 32}, {"sym", false}, {"act_bits", 16}};
  const Scheme weight_only = resolve({{"bits", 3}}, preset);
  EXPECT_EQ(weight_only.weight->bits, 3);
  EXPECT_EQ(weight_only.weight->rounding, Rounding::kTuned);
  EXPECT_FALSE(weight_only.activation);

  const Scheme both = resolve({{"act_bits", 8}}, preset);  // the rest is the weight's
  EXPECT_EQ(both.activation->dtype, "fixture");
  EXPECT_EQ(both.activation->bits, 8);
  EXPECT_EQ(both.activation->group_cols, 32);
  EXPECT_FALSE(both.activation->symmetric);
  EXPECT_TRUE(both.activation->dynamic);
  EXPECT_EQ(both.activation->rounding, Rounding::kPlain);

  const Scheme said = resolve(
      {{"act_data_type", "other"}, {"act_bits", 8}, {"act_sym", true}, {"act_dynamic", false}, {"act_group_size", -1}},
      preset);
  EXPECT_EQ(said.activation->dtype, "other");
  EXPECT_EQ(said.activation->group_cols, RH_GROUP_ROW);
  EXPECT_TRUE(said.activation->symmetric);
  EXPECT_FALSE(said.activation->dynamic);

  EXPECT_EQ(resolve({{"act_data_type", "other_alias"}}, {{"data_type", "fixture"}}).activation->bits,
            8);                                                                                // the alias's
  EXPECT_FALSE(resolve({{"act_data_type", "other"}}, {{"data_type", "fixture"}}).activation);  // nobody says bits
  EXPECT_EQ(resolve({{"bits", 16}}), Scheme{});
  EXPECT_EQ(error_of([&] { resolve({{"bits", 4}}); }), "the scheme has no data_type");
  EXPECT_CONTAINS(error_of([&] {
                    resolve({{"act_dinamic", true}, {"act_bits", 8}}, preset);
                  }),
                  "did you mean dynamic?");
}

TEST(SchemeJson, HasTheRecipesKeys) {
  TensorScheme weight, activation;
  weight.dtype = "a";
  weight.bits = 4;
  activation.dtype = "b";
  activation.bits = 8;
  activation.group_cols = RH_GROUP_ROW;
  EXPECT_EQ(to_json(Scheme{}), (json{{"bits", 16}, {"act_bits", 16}}));
  EXPECT_EQ(to_json({weight, {}}),
            (json{{"data_type", "a"}, {"bits", 4}, {"group_size", 128}, {"sym", true}, {"act_bits", 16}}));
  weight.group_rows = 32;
  weight.scale_dtype = DType::kF16;
  weight.options = {{"key", 1}};
  EXPECT_EQ(to_json({weight, activation}), (json{{"data_type", "a"},
                                                 {"bits", 4},
                                                 {"group_size", {32, 128}},
                                                 {"sym", true},
                                                 {"scale_dtype", "float16"},
                                                 {"options", {{"key", 1}}},
                                                 {"act_data_type", "b"},
                                                 {"act_bits", 8},
                                                 {"act_group_size", -1},
                                                 {"act_sym", true},
                                                 {"act_dynamic", true}}));
}

TEST(SchemeFields, WhatAFieldTellsSetsItAgain) {
  TensorScheme scheme;
  scheme.dtype = "a";
  scheme.bits = 3;
  scheme.symmetric = false;
  scheme.rounding = Rounding::kSearch;
  scheme.group_rows = 2;
  scheme.group_cols = 64;
  scheme.dynamic = false;
  scheme.scale_dtype = DType::kBF16;
  scheme.scale_threshold = 0.5;
  scheme.options = {{"mode", "fast"}};
  const TensorScheme defaults;
  TensorScheme again;
  again.dtype = "a";
  std::set<std::string> keys;
  for (const SchemeField& field : scheme_fields()) {
    EXPECT_TRUE(keys.insert(field.key).second) << field.key;
    EXPECT_NE(field.get(scheme), field.get(defaults)) << field.key << " is not among those above";
    if (!field.set) continue;
    field.set(again, field.get(scheme));
    EXPECT_THROW(field.set(again, json::array({"x"})), Error) << field.key;
  }
  EXPECT_EQ(again, scheme);
}

TEST(SchemeViewTest, PluginsSeeTheFields) {
  TensorScheme scheme;
  scheme.dtype = "a";
  scheme.bits = 3;
  scheme.symmetric = false;
  scheme.rounding = Rounding::kSearch;
  scheme.group_rows = 2;
  scheme.group_cols = 64;
  scheme.dynamic = false;
  scheme.scale_dtype = DType::kBF16;
  scheme.scale_threshold = 0.5;
  scheme.options = {{"key", 1}};
  const SchemeView view(scheme);
  EXPECT_EQ(view.get()->struct_size, sizeof(rh_scheme));
  EXPECT_STREQ(view.get()->dtype, "a");
  EXPECT_EQ(view.get()->bits, 3);
  EXPECT_EQ(view.get()->symmetric, 0);
  EXPECT_EQ(view.get()->rounding, RH_ROUNDING_SEARCH);
  EXPECT_EQ(view.get()->group_rows, 2);
  EXPECT_EQ(view.get()->group_cols, 64);
  EXPECT_EQ(view.get()->dynamic, 0);
  EXPECT_EQ(view.get()->scale_threshold, 0.5f);
  EXPECT_EQ(view.get()->scale_dtype.kind, RH_KIND_BFLOAT);
  EXPECT_STREQ(view.get()->options_json, "{\"key\":1}");
}

}  // namespace
}  // namespace roundhouse
