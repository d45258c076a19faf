// SPDX-License-Identifier: Apache-2.0
// Plans of tests/data/models with the project's own plugins. The cases are files: plans/NAME.yaml is a recipe, beside
// it stands NAME.plan, what `describe` prints, or NAME.error, the whole message.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <regex>
#include <set>

#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "host/plan/format_facts.h"
#include "host/plan/mix.h"
#include "host/plan/passes.h"
#include "host/plan/plan_text.h"
#include "tests/recorded.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = ROUNDHOUSE_SOURCE;
const fs::path kPlugins = fs::path(ROUNDHOUSE_BUILD) / "lib/roundhouse/plugins";
const fs::path kCases = kSource / "tests/recipe/plans";

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

// A catalogue of these plugins alone: files, or names of built-in ones.
Catalogue catalogue_of(const std::vector<std::string>& names) {
  DiscoveryOptions options;
  options.use_cache = false;
  options.executable_dir = "/nowhere/bin";
  ::setenv("XDG_DATA_HOME", "/nowhere", 1);
  for (const char* name : {"ROUNDHOUSE_PLUGIN_PATH", "ROUNDHOUSE_ADD_PLUGIN_PATH"}) ::unsetenv(name);
  for (const std::string& name : names)
    options.files.push_back(name.starts_with('/') ? fs::path(name) : kPlugins / ("librh_" + name + ".so"));
  return Catalogue::discover(options);
}

const std::vector<std::string> kAll = {"dtype_int", "format_auto_gptq", "format_auto_round", "format_fake"};

Plan plan_of(const Recipe& recipe, const std::vector<std::string>& plugins = kAll) {
  Catalogue catalogue = catalogue_of(plugins);
  SafetensorsFolder source(recipe.model);
  return plan_recipe(recipe, Architecture::load(recipe.model, {kSource / "configs/architectures"}), source, catalogue);
}

Recipe recipe_of(const std::string& name, const std::vector<std::string>& overrides = {}) {
  return load_recipe(kCases / (name + ".yaml"), overrides, {kSource / "configs/schemes"});
}

std::string error_of(const Recipe& recipe, const std::vector<std::string>& plugins = kAll) {
  try {
    plan_of(recipe, plugins);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

const LayerPlan& layer_of(const Plan& plan, const std::string& name) {
  const auto found = std::find_if(plan.layers.begin(), plan.layers.end(),
                                  [&](const LayerPlan& layer) { return layer.info.name == name; });
  if (found == plan.layers.end()) throw std::out_of_range(name);
  return *found;
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kCases))
    if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

class PlanCase : public testing::TestWithParam<std::string> {};

TEST_P(PlanCase, IsDescribedOrRefusedAsWritten) {
  const fs::path described = kCases / (GetParam() + ".plan"), refused = kCases / (GetParam() + ".error");
  ASSERT_NE(fs::exists(described), fs::exists(refused)) << "needs a .plan or an .error";
  std::string text;
  try {
    text = describe(plan_of(recipe_of(GetParam())));
    EXPECT_TRUE(fs::exists(described));
  } catch (const Error& e) {
    text = cat(e.what(), "\n");
    EXPECT_TRUE(fs::exists(refused));
  }
  text = replaced(replaced(text, kPlugins.string(), "$PLUGINS"), kSource.string(), "$SOURCE");
  // Activations have two bytes a number or four, as the processor multiplies (computes_in_bfloat16()).
  static const std::regex of_activations("((?:^|\n)(?:journal|measuring) [^\n]*?)[0-9.]+ [kMG]?B");
  text = std::regex_replace(text, of_activations, "$1$$BYTES");
  expect_recorded(text, fs::exists(described) ? described : refused);
}

INSTANTIATE_TEST_SUITE_P(Files, PlanCase, testing::ValuesIn(case_names()), [](const auto& info) { return info.param; });

// The layer's name was replaced in it, too.
TEST(Plan, AProblemQuotesTheRecipeAsItIsWritten) {
  EXPECT_EQ(error_of(recipe_of("tied_kept", {"layers=[{match: lm_head, bits: 8}]"})),
            "this recipe cannot be run:\n  unchanged: --set layers=[{match: lm_head, bits: 8}]: the layer "
            "shares its weight with the embedding model.embed_tokens, which is not quantized. Remove this entry, "
            "or write scheme: none\n    lm_head");
}

TEST(Plan, TheFirstMatchDecides) {
  const Plan plan = plan_of(recipe_of("mixed"));
  EXPECT_EQ(plan.layers.size(), 2 * 7 + 1u);
  EXPECT_EQ(plan.layers.back().info.name, "lm_head");
  EXPECT_EQ(plan.layers.back().block, -1);

  const LayerPlan& down = layer_of(plan, "model.layers.1.mlp.down_proj");
  EXPECT_EQ(down.block, 1);
  EXPECT_EQ(down.matched, "re:.*\\.down_proj");
  ASSERT_TRUE(down.scheme.weight);
  EXPECT_EQ(down.scheme.weight->bits, 8);
  EXPECT_EQ(down.scheme.weight->group_cols, 128);
  EXPECT_EQ(down.scheme.weight->rounding, Rounding::kTuned);
  EXPECT_EQ(down.dtype, DType::kBF16);

  EXPECT_FALSE(layer_of(plan, "model.layers.0.self_attn.k_proj").scheme.weight);
  EXPECT_EQ(layer_of(plan, "model.layers.0.self_attn.k_proj").encoding_id(), "");
  EXPECT_EQ(layer_of(plan, "model.layers.1.self_attn.k_proj").matched, "");
  EXPECT_EQ(layer_of(plan, "lm_head").scheme.weight->bits, 4);
}

TEST(Plan, ACheckpointThatCannotHoldAllLayersIsRefused) {
  std::vector<std::string> plugins = kAll;
  plugins.push_back("dtype_fp8");
  const auto error = [&](const std::string& rule) {
    return error_of(recipe_of("plain", {"layers=[{match: \"re:.*k_proj\", " + rule + "}]", "formats=[auto_round]"}),
                    plugins);
  };
  EXPECT_EQ(error("sym: false"), "no error");
  const std::string message = error("scheme: FPW8A16");
  EXPECT_NE(
      message.find("the format auto_round: it allows one packing_format per checkpoint: this layer needs none, and "
                   "most layers of this plan need auto_round:auto_gptq"),
      std::string::npos)
      << message;
}

// The lines of a message that leave layers alone, as a recipe has them.
std::string entries_in(const std::string& message) {
  const size_t at = message.find("\nlayers:\n");
  return at == std::string::npos ? "" : message.substr(at + 1) + "\n";
}

TEST(Plan, TheEntriesThatAMessageOffersLeaveTheLayersAlone) {
  const fs::path file = fs::path(testing::TempDir()) / "roundhouse-entries.yaml";
  const auto error_with = [&](const std::string& entries) {
    std::ofstream(file) << "version: 1\nmodel: " << (kSource / "tests/data/models/tiny-llama").string()
                        << "\noutput: out\nscheme: W4A16\nformats: [auto_gptq]\ntuning: {iters: 0}\n"
                        << entries;
    return error_of(load_recipe(file, {}, {kSource / "configs/schemes"}));
  };
  const std::string rules =
      "  - {match: 're:.*k_proj', bits: 5}\n  - {match: 're:.*0.*down_proj', bits: 9}\n"
      "  - {match: 're:.*(up|gate)_proj', scheme: {data_type: int, bits: 4, group_size: 96}}\n";
  const std::string offered = entries_in(error_with("layers:\n" + rules));
  EXPECT_EQ(offered, R"(layers:
  - {match: 're:model\.layers\.\d+\.self_attn\.k_proj', scheme: none}
  - {match: 're:model\.layers\.\d+\.mlp\.gate_proj', scheme: none}
  - {match: 're:model\.layers\.\d+\.mlp\.up_proj', scheme: none}
  - {match: 'model.layers.0.mlp.down_proj', scheme: none}
)");
  EXPECT_EQ(error_with(offered + rules), "no error");
  EXPECT_EQ(entries_in(error_with("layers: [{match: 're:.*', bits: 5}]\n")), "") << "nothing would be quantized";
  fs::remove(file);
}

TEST(Plan, TheEntriesThatAMessageOffersMatchNoOtherLayers) {
  const std::vector<std::function<bool(int block, int expert)>> choices = {
      [](int block, int expert) { return block == 2 && expert == 11; },
      [](int block, int) { return block == 1; },
      [](int, int expert) { return expert % 2 == 0; },
      [](int block, int expert) { return block != 3 && expert > 9; },
      [](int block, int expert) { return block == expert || block == 0; },
      [](int, int) { return true; },
  };
  const auto encoding = plan_of(recipe_of("plain")).layers[0].encoding;
  for (size_t choice = 0; choice < choices.size(); ++choice) {
    SCOPED_TRACE(choice);
    Plan plan;
    plan.block_prefix = "model.layers";
    plan.blocks = 12;
    std::set<std::string> refused;
    for (int block = 0; block < 12; ++block)
      for (int expert = 0; expert < 13; ++expert)
        for (const std::string part : {"up+", "up"}) {
          LayerPlan& layer = plan.layers.emplace_back();
          layer.info.name = cat("model.layers.", block, ".experts.", expert, ".", part);
          layer.block = block;
          layer.scheme.weight.emplace();
          layer.encoding = encoding;
          layer.unfit = choices[choice](block, expert) && part == "up+";
          if (!layer.unfit) continue;
          layer.problems = {"it does not fit"};
          refused.insert(layer.info.name);
        }
    const std::string entries = entries_in(describe_problems(plan));
    const Recipe recipe = recipe_of("plain", {"layers=" + entries.substr(entries.find('\n'))});
    std::set<std::string> matched;
    for (const LayerPlan& layer : plan.layers)
      for (const LayerRule& rule : recipe.layers)
        if (rule.match.matches(layer.info.name)) matched.insert(layer.info.name);
    EXPECT_EQ(matched, refused) << entries;
  }
}

TEST(Plan, RoundingFollowsTuningAndSearch) {
  const auto rounding = [](const std::vector<std::string>& overrides) {
    return plan_of(recipe_of("plain", overrides)).layers[0].scheme.weight->rounding;
  };
  EXPECT_EQ(rounding({}), Rounding::kPlain);
  EXPECT_EQ(rounding({"tuning.iters=2", "calibration.data=" + (kCases / "plain.yaml").string()}), Rounding::kTuned);
}

TEST(Plan, ADataTypeThatIsNotTunedFromASearchIsTunedWithoutOne) {
  const Plan plan =
      plan_of(recipe_of("signround2", {"scheme={data_type: fp8, bits: 8, group_size: -1}", "formats=[fake]"}),
              {"dtype_fp8", "format_fake"});
  EXPECT_EQ(plan.layers[0].scheme.weight->rounding, Rounding::kTuned);
  EXPECT_TRUE(contains(plan.warnings, "the data type fp8 is not tuned from searched scales: as by signround"))
      << describe(plan);
}

TEST(Plan, AMixIsMeasuredWithinTheModelsPositions) {
  const Plan plan = plan_of(recipe_of("mix", {"calibration.seqlen=4096", "tuning.iters=0"}));
  EXPECT_TRUE(contains(plan.warnings, "calibration.seqlen 4096 is beyond the 2048 positions that the model knows"))
      << describe(plan);
}

TEST(Plan, ItsRecipeIsCompleteAndGivesTheSamePlan) {
  for (const char* name : {"mixed", "plain"}) {
    const Plan plan = plan_of(recipe_of(name));
    const std::string text = to_yaml(plan.recipe);
    EXPECT_EQ(text.find("preset"), std::string::npos) << text;
    const fs::path file = fs::path(testing::TempDir()) / cat("resolved-", name, ".yaml");
    std::ofstream(file) << text;
    const Recipe saved = load_recipe(file, {}, {});
    fs::remove(file);
    EXPECT_EQ(saved, plan.recipe);
    const Plan again = plan_of(saved);
    EXPECT_EQ(again.recipe, plan.recipe);
    EXPECT_EQ(to_json(again), to_json(plan));
  }
}

TEST(Plan, AnAliasStaysInTheResolvedRecipe) {
  const Plan plan = plan_of(recipe_of("plain", {"scheme={data_type: rtn_int_sym, bits: 4}"}));
  EXPECT_EQ(plan.scheme.weight->dtype, "int");
  EXPECT_EQ(plan.recipe.scheme.said.at("data_type"), "rtn_int_sym");
  EXPECT_EQ(plan.recipe.scheme.said.at("sym"), true);
}

TEST(Plan, ANameMayEndInItsBits) {
  EXPECT_EQ(plan_of(recipe_of("plain", {"scheme={data_type: int3}"})).scheme.weight->bits, 3);
  EXPECT_NE(error_of(recipe_of("plain", {"scheme={data_type: int3, bits: 4}"}))
                .find("data type int3 means int with bits 3, but bits 4 was asked for"),
            std::string::npos);
}

TEST(Plan, SizesAreThoseOfPackedCodesAndScales) {
  const Plan plan = plan_of(recipe_of("plain"));
  const LayerPlan& up = layer_of(plan, "model.layers.0.mlp.up_proj");  // [512, 256], 4 bits, groups of 128
  EXPECT_EQ(up.encoded_bytes, 512 * 256 / 2 + 512 * 2 * sizeof(uint16_t));
  uint64_t linear = 0, packed = 0;
  for (const LayerPlan& layer : plan.layers) {
    if (!layer.scheme.weight) continue;
    linear += static_cast<uint64_t>(layer.info.out_features * layer.info.in_features) * 2;
    packed += layer.encoded_bytes;
  }
  ASSERT_EQ(plan.formats.size(), 2u);
  EXPECT_EQ(plan.formats[0].bytes_estimate, plan.bytes_before - linear + packed);
  EXPECT_EQ(plan.formats[1].bytes_estimate, plan.bytes_before) << "fake keeps the element type";
}

TEST(Plan, JsonHasTheKeysThatPluginsRead) {
  const Plan plan = plan_of(recipe_of("mixed"));
  const nlohmann::json json = to_json(plan);
  EXPECT_EQ(json.at("block_prefix"), "model.layers");
  EXPECT_EQ(json.at("tied_head"), false);
  EXPECT_EQ(json.at("dtype"), "bfloat16");
  EXPECT_EQ(json.at("scheme").at("bits"), 4);
  EXPECT_EQ(json.at("layers").size(), plan.layers.size());
  const nlohmann::json& kept = json.at("layers").at(1);
  EXPECT_EQ(kept.at("name"), "model.layers.0.self_attn.k_proj");
  EXPECT_EQ(kept.at("quantized"), false);
  EXPECT_EQ(kept.at("scheme").at("bits"), 16);
  EXPECT_EQ(kept.at("rows"), 128);
  EXPECT_EQ(kept.at("cols"), 256);
  const nlohmann::json& first = json.at("layers").at(0);
  EXPECT_EQ(first.at("quantized"), true);
  EXPECT_EQ(first.at("scheme").at("sym"), true);
  EXPECT_EQ(first.at("encoding").at("id"), "affine-int/1");
  EXPECT_EQ(first.at("encoding").at("parameters").at("bits"), 4);
  EXPECT_TRUE(kept.at("encoding").is_null());
  EXPECT_EQ(json.at("tensors").size(), 2 * 9 + 3u);
  EXPECT_TRUE(first.at("matched").is_null());

  const nlohmann::json tuning = tuning_facts(plan.recipe);
  EXPECT_EQ(tuning.at("iters"), 20);
  EXPECT_EQ(tuning.at("lr"), 1.0 / 20);
  EXPECT_EQ(tuning.at("samples"), 8);
}

TEST(Plan, EnginesAreThoseThatTakeTheEncodingAndItsParameters) {
  const auto engines = [](const std::string& preset) {
    const Plan plan = plan_of(recipe_of("plain", {"scheme=" + preset, "formats=[auto_round, llm_compressor]",
                                                  "calibration.data=" + (kCases / "plain.yaml").string()}),
                              {"dtype_nvfp", "format_auto_round", "format_llm_compressor"});
    std::vector<std::vector<std::string>> names;
    for (const FormatPlan& format : plan.formats) {
      names.emplace_back();
      for (const nlohmann::json& backend : format.backends) names.back().push_back(backend.at("engine"));
    }
    return names;
  };
  EXPECT_EQ(engines("NVFP4"), (std::vector<std::vector<std::string>>{
                                  {"transformers with auto-round"}, {"vllm", "transformers with compressed-tensors"}}));
  EXPECT_EQ(engines("NVFP4_E5M3"), (std::vector<std::vector<std::string>>{{"transformers with auto-round"}, {}}));
}

const std::vector<std::string> kGguf = {"dtype_ggml", "dtype_int", "format_gguf", "format_auto_round"};

TEST(Plan, AFormatMayChooseDataTypesByRole) {
  const Plan plan = plan_of(recipe_of("plain", {"scheme=GGUF:Q4_K_M", "formats=[gguf]"}), kGguf);
  EXPECT_EQ(plan.recipe.formats[0].options, (nlohmann::json{{"file_type", "Q4_K_M"}})) << "the preset's";
  EXPECT_EQ(plan.layers.size(), 2 * 7 + 2u);
  const auto dtype = [&](const std::string& name) { return layer_of(plan, name).scheme.weight.value().dtype; };
  EXPECT_EQ(dtype("model.layers.0.mlp.down_proj"), "q4_k");
  EXPECT_EQ(dtype("model.layers.1.mlp.down_proj"), "q6_k");
  EXPECT_EQ(dtype("lm_head"), "q6_k");
  EXPECT_EQ(dtype("model.embed_tokens"), "q4_k");
  EXPECT_EQ(layer_of(plan, "model.embed_tokens").info.role, "embedding");
  EXPECT_EQ(layer_of(plan, "model.embed_tokens").encoding->parameters(), (nlohmann::json{{"type", "q4_k"}}));
  EXPECT_EQ(layer_of(plan, "lm_head").assigned, "gguf");
}

TEST(Plan, EntriesWinOverWhatAFormatChooses) {
  const Plan plan = plan_of(recipe_of("plain", {"scheme=GGUF:Q4_K_M", "formats=[gguf]",
                                                "layers=[{match: lm_head, scheme: GGUF:Q8_0}, "
                                                "{match: model.embed_tokens, scheme: none}]"}),
                            kGguf);
  EXPECT_EQ(layer_of(plan, "lm_head").scheme.weight.value().dtype, "q8_0");
  EXPECT_EQ(layer_of(plan, "lm_head").assigned, "");
  EXPECT_FALSE(layer_of(plan, "model.embed_tokens").scheme.weight);
}

TEST(Plan, FormatsThatWantDifferentDataTypesOfALayerAreRefused) {
  const std::string fixture = std::string(ROUNDHOUSE_BUILD) + "/tests/plugins/fixtures/librh_fixture_format.so";
  const auto error = [&](const std::string& wished) {  // the fixture's options are what it assigns
    return error_of(recipe_of("plain", {"scheme=GGUF:Q4_K_M", "formats=[gguf, {id: fixture_format, " + wished + "}]"}),
                    {"dtype_ggml", "format_gguf", fixture});
  };
  const std::string conflict = error("lm_head: {data_type: q8_0}");
  EXPECT_NE(conflict.find("the formats gguf and fixture_format want different data types of lm_head: "
                          R"({"data_type":"q6_k"}, {"data_type":"q8_0"}. Write them with a recipe each)"),
            std::string::npos)
      << conflict;
  EXPECT_EQ(error("lm_head: {data_type: q6_k}").find("want different data types"), std::string::npos);
}

TEST(Plan, AFormatsOptionsMustFitTheScheme) {
  const auto refused = [](const std::string& scheme, const std::string& format) {
    return error_of(recipe_of("plain", {"scheme=" + scheme, "formats=[" + format + "]"}), kGguf);
  };
  EXPECT_NE(refused("GGUF:Q4_K_M", "{id: gguf, file_type: Q6_K}")
                .find("file_type Q6_K consists of q6_k, but the recipe's scheme is q4_k"),
            std::string::npos);
  EXPECT_NE(refused("W4A16", "gguf").find("the format gguf does not pack affine-int/1, only ggml-block/1"),
            std::string::npos);
  EXPECT_NE(refused("GGUF:Q4_K_M", "gguf, auto_round").find("the format auto_round does not pack ggml-block/1"),
            std::string::npos);
}

TEST(Plan, WithoutItsPluginsARecipeIsRefusedWithWhatIsThere) {
  const std::string no_dtype = error_of(recipe_of("plain"), {"format_fake"});
  EXPECT_NE(no_dtype.find("plain.yaml:4:9: "), std::string::npos) << no_dtype;
  EXPECT_NE(no_dtype.find("int"), std::string::npos) << no_dtype;
  const std::string no_format = error_of(recipe_of("plain"), {"dtype_int", "format_fake"});
  EXPECT_NE(no_format.find("plain.yaml:5:11: "), std::string::npos) << no_format;
  EXPECT_NE(no_format.find("auto_round"), std::string::npos) << no_format;
}

TEST(Plan, AMissingTensorAndAWrongShapeAreFoundBeforeTheWork) {
  const fs::path model = fs::path(testing::TempDir()) / "roundhouse-plan-model";
  fs::remove_all(model);
  fs::copy(kSource / "tests/data/models/tiny-llama", model);
  Recipe recipe = recipe_of("plain");
  recipe.model = model;
  const std::string config = read_text(model / "config.json");
  std::ofstream(model / "config.json") << replaced(config, "\"intermediate_size\": 512", "\"intermediate_size\": 640");
  EXPECT_NE(error_of(recipe).find("/model.safetensors: the weight is [512, 256], but config.json says [640, 256]\n"
                                  "    model.layers.*.mlp.gate_proj, model.layers.*.mlp.up_proj"),
            std::string::npos)
      << error_of(recipe);
  std::ofstream(model / "config.json") << replaced(config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
  EXPECT_NE(error_of(recipe).find(model.string() + ": has no tensor model.layers.2."), std::string::npos)
      << error_of(recipe);
  fs::remove_all(model);
}

TEST(PlanText, TheNameOfALayerMayBeAPartOfWhatStandsForIt) {
  EXPECT_EQ(without_name("layer: 3 columns; layers: [layer]", "layer"), "the layer: 3 columns; the layers: [layer]");
}

TEST(PlanText, ATensorOfALayerIsTheLayers) {
  EXPECT_EQ(without_name("no a.b.weight for a.b. Give it", "a.b"), "no the layer's weight for the layer. Give it");
}

}  // namespace
}  // namespace roundhouse
