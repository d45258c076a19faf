// SPDX-License-Identifier: Apache-2.0
// The cases are files: NAME.yaml is a recipe (its first lines may be "# --set key=value"), and beside it stands either
// NAME.resolved, what to_yaml writes for it, or NAME.error, the whole message. $DIR stands for the cases' folder.
#include "host/recipe/recipe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "host/base/error.h"
#include "tests/recorded.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

const fs::path kCases = fs::path(ROUNDHOUSE_SOURCE) / "tests/recipe/cases";
const std::vector<fs::path> kPresets = {fs::path(ROUNDHOUSE_SOURCE) / "configs/schemes"};

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string without_folder(std::string text) {
  for (size_t at; (at = text.find(kCases.string())) != std::string::npos;)
    text.replace(at, kCases.string().size(), "$DIR");
  return text;
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) : path_(fs::path(testing::TempDir()) / unique_name()) { write(text); }
  TemporaryFile(const TemporaryFile&) = delete;
  ~TemporaryFile() { fs::remove(path_); }
  void write(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }
  const fs::path& path() const { return path_; }

 private:
  static std::string unique_name() {
    return std::string("roundhouse-") + std::to_string(std::random_device()()) + ".yaml";
  }
  fs::path path_;
};

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kCases))
    if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> overrides_of(const fs::path& file) {
  const std::string prefix = "# --set ";
  std::vector<std::string> overrides;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line) && line.starts_with(prefix);)
    overrides.push_back(line.substr(prefix.size()));
  return overrides;
}

class RecipeCase : public testing::TestWithParam<std::string> {};

TEST_P(RecipeCase, IsResolvedOrRefusedAsWritten) {
  const fs::path file = kCases / (GetParam() + ".yaml");
  const fs::path resolved = kCases / (GetParam() + ".resolved"), refused = kCases / (GetParam() + ".error");
  ASSERT_NE(fs::exists(resolved), fs::exists(refused)) << "needs a .resolved or an .error";
  try {
    const Recipe recipe = load_recipe(file, overrides_of(file), kPresets);
    const std::string text = to_yaml(recipe);
    expect_recorded(without_folder(text), resolved);
    const TemporaryFile saved(text);
    EXPECT_EQ(load_recipe(saved.path(), {}, kPresets), recipe);
  } catch (const Error& e) {
    expect_recorded(without_folder(e.what()) + "\n", refused);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, RecipeCase, testing::ValuesIn(case_names()),
                         [](const auto& info) { return info.param; });

TEST(Recipe, RelativePathsStartFromTheFileAndThoseOfOptionsFromTheCurrentFolder) {
  const Recipe recipe = load_recipe(kCases / "smallest.yaml", {"output=here"}, kPresets);
  EXPECT_EQ(recipe.model, kCases / "inputs/model");
  EXPECT_EQ(recipe.output, fs::current_path() / "here");
}

TEST(Recipe, PlaceIsNoPartOfAComparison) {
  const Recipe recipe = load_recipe(kCases / "smallest.yaml", {}, kPresets);
  const Recipe same = load_recipe(kCases / "smallest.yaml", {"scheme=W4A16"}, kPresets);
  EXPECT_NE(recipe.scheme.place.text, same.scheme.place.text);
  EXPECT_EQ(recipe, same);
  EXPECT_NE(recipe, load_recipe(kCases / "smallest.yaml", {"scheme=W8A16"}, kPresets));
}

// Whatever is in such a container counted as an importance matrix.
TEST(Recipe, AnImportanceMatrixIsNotSavedOverAModel) {
  const fs::path exports = fs::path(ROUNDHOUSE_SOURCE) / "tests/data/exports/gguf_q8_0";
  const fs::path model = fs::directory_iterator(exports)->path();
  try {
    load_recipe(kCases / "smallest.yaml", {"imatrix.save=" + model.string()}, kPresets);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(model.string() + " is there, and no importance matrix"), std::string::npos);
  }
}

TEST(Recipe, LearningRates) {
  Tuning tuning;
  EXPECT_EQ(learning_rate(tuning, 4), 1.0 / 200);
  EXPECT_EQ(learning_rate(tuning, 2), 1.0 / 200);
  tuning.iters = 1000;
  EXPECT_EQ(learning_rate(tuning, 4), 1.0 / 1000);
  EXPECT_EQ(learning_rate(tuning, 3), 2.0 / 1000);
  EXPECT_EQ(minmax_learning_rate(tuning, 3), 2.0 / 1000);
  tuning.lr = 0.25;
  EXPECT_EQ(learning_rate(tuning, 3), 0.25);
  EXPECT_EQ(minmax_learning_rate(tuning, 3), 0.25);
  tuning.minmax_lr = 0.5;
  EXPECT_EQ(minmax_learning_rate(tuning, 3), 0.5);
  tuning = Tuning{};
  tuning.algorithm = Tuning::Algorithm::kSignround2;
  EXPECT_EQ(learning_rate(tuning, 4), 1.0 / 200);
  EXPECT_EQ(learning_rate(tuning, 2), 1.0 / 200);
  tuning.iters = 50;
  EXPECT_EQ(learning_rate(tuning, 4), 0.005);
  EXPECT_EQ(learning_rate(tuning, 3), 0.01);
  EXPECT_EQ(learning_rate(tuning, 2), 0.014);
  EXPECT_EQ(minmax_learning_rate(tuning, 3), 0.0025);
  tuning.iters = 25;
  EXPECT_EQ(learning_rate(tuning, 4), 0.01);
  EXPECT_EQ(learning_rate(tuning, 3), 0.02);
  EXPECT_EQ(learning_rate(tuning, 2), 0.028);
  tuning.minmax_lr = 0.5;
  EXPECT_EQ(minmax_learning_rate(tuning, 3), 0.5);
  tuning = Tuning{};
  tuning.iters = 0;
  EXPECT_EQ(learning_rate(tuning, 4), 0);
}

TEST(Presets, CoverTwoToEightBitsInThreeGroupSizes) {
  const std::vector<Preset> presets = list_presets(kPresets);
  for (int bits = 2; bits <= 8; ++bits) {
    for (const int group : {128, 64, 32}) {
      const std::string name = cat("W", bits, "A16", group == 128 ? "" : cat("G", group));
      const auto found =
          std::find_if(presets.begin(), presets.end(), [&](const Preset& preset) { return preset.name == name; });
      ASSERT_NE(found, presets.end()) << name;
      EXPECT_EQ(found->fields.at("bits"), bits);
      EXPECT_EQ(found->fields.at("group_size"), group);
      EXPECT_EQ(found->fields.at("sym"), true);
    }
  }
}

TEST(Presets, AFolderThatIsNotThereHasNone) { EXPECT_TRUE(list_presets({kCases / "no-such-folder"}).empty()); }

// Any bytes give a recipe or an Error; a recipe survives being written and read.
TEST(Recipe, DamagedFilesAreRefusedOrRead) {
  const std::string valid = read_text(kCases / "full.yaml");
  const std::string alphabet = "\n :-[]{}&*!|>'\"%@`#,?~\\\t.0aA\x01\x80\xff";
  std::mt19937 random(20240607);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const TemporaryFile file(valid), saved("");
  int read = 0, refused = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string text = valid;
    // A model and texts that are there, so that much of it is valid.
    for (size_t at; (at = text.find(": inputs/")) != std::string::npos;) text.insert(at + 2, kCases.string() + "/");
    for (size_t edits = 1 + below(3); edits > 0; --edits) {
      const size_t at = below(text.size());
      switch (below(4)) {
        case 0:
          text[at] = alphabet[below(alphabet.size())];
          break;
        case 1:
          text.insert(at, 1, alphabet[below(alphabet.size())]);
          break;
        case 2:
          text.erase(at, 1 + below(8));
          break;
        default:
          text.insert(at, text.substr(below(text.size()), below(40)));
          break;
      }
    }
    file.write(text);
    try {
      const Recipe recipe = load_recipe(file.path(), {}, kPresets);
      saved.write(to_yaml(recipe));
      ASSERT_EQ(load_recipe(saved.path(), {}, kPresets), recipe) << text;
      ++read;
    } catch (const Error& e) {
      ASSERT_NE(std::string(e.what()), "");
      ++refused;
    }
  }
  EXPECT_GT(read, 30);
  EXPECT_GT(refused, 300);
}

}  // namespace
}  // namespace roundhouse
