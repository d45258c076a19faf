// SPDX-License-Identifier: Apache-2.0
// GGUF: the reference's files read, written again, damaged; and its mixes. tests/data/exports/README.md says where the
// data come from.
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>

#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "host/model/architecture.h"
#include "host/text/tokenizer.h"
#include "tests/formats/format_fixture.h"

namespace roundhouse::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kKey = "model.layers.0.self_attn.k_proj.weight";  // [128, 256], two heads
const std::string kValue = "model.layers.1.self_attn.v_proj.weight";
const std::string kNorm = "model.layers.0.input_layernorm.weight";

json tiny_llama() {
  static const json facts = Architecture::load(fs::path(TEST_DATA) / "models/tiny-llama",
                                               {fs::path(ROUNDHOUSE_SOURCE) / "configs/architectures"})
                                .facts();
  return facts;
}

struct Golden {
  const char* folder;
  const char *key_type, *value_type;  // of the two weights; NULL: not there
};
const Golden kGoldens[] = {
    {"gguf_q2_k_s", "q2_k", "q2_k"}, {"gguf_q3_k_m", "q3_k", "q5_k"}, {"gguf_q4_0", "q4_0", "q4_0"},
    {"gguf_q4_1", "q4_1", "q4_1"},   {"gguf_q4_k_m", "q4_k", "q6_k"}, {"gguf_q5_0", "q5_0", "q5_0"},
    {"gguf_q5_1", nullptr, "q5_1"},  {"gguf_q5_k_s", "q5_k", "q5_k"}, {"gguf_q6_k", "q6_k", "q6_k"},
    {"gguf_q8_0", "q8_0", "q8_0"},
};

Tensor blocks_of(const TestReader& reader, const std::string& name) {
  const rh_tensor_spec& spec = *reader.item(name).encoding->tensors[0];
  Tensor blocks(DType::kU8, {spec.shape[0], spec.shape[1]});
  rh_tensor view = blocks.view();
  EXPECT_EQ(reader.read_encoded(name, {&view}), "");
  return blocks;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

// What the host tells of an export of tiny-llama, or of a part of it.
ExportSession::Facts facts() {
  return {{{"config", json::object()},
           {"architecture", tiny_llama()},
           {"plan", {{"data_type", nullptr}, {"layers", json::object()}}}},
          {{"model", fs::path(TEST_DATA) / "models/tiny-llama"}},
          {{"tokenizer", [] { return Tokenizer::facts(fs::path(TEST_DATA) / "models/tiny-llama"); }}}};
}

// Everything that `reader` has, written by the format and opened again.
class Rewritten {
 public:
  Rewritten(const FormatPlugin& format, const TestReader& reader, const json& options = json::object(),
            uint64_t max_shard_bytes = 1 << 30) {
    OutputFolder folder(temporary_.path() / "out", false);
    TestPlan plan(options, tiny_llama());
    for (const std::string& name : reader.names()) {
      const rh_item item = reader.item(name);
      const std::vector<int64_t> shape(item.shape, item.shape + item.ndim);
      if (item.kind == RH_ITEM_LAYER)
        plan.add_layer(name.substr(0, name.rfind('.')), shape[0], shape[1], from_rh(item.dtype), *item.encoding);
      else
        plan.add_tensor(name, shape, from_rh(item.dtype));
    }
    if (const std::string refusal = plan.refusal(format); !refusal.empty()) throw Error(refusal);
    const ExportSession session(folder, facts(), plan.get(), max_shard_bytes, nullptr);
    rh_error error{};
    rh_writer* writer = nullptr;
    if (format->begin(format.get(), session.get(), &writer, &error) != RH_OK) throw Error(error.message);
    const auto names = reader.names();
    for (auto name = names.rbegin(); name != names.rend(); ++name) {  // in another order than the plan's
      const rh_item item = reader.item(*name);
      rh_code code = RH_OK;
      if (item.kind == RH_ITEM_LAYER) {
        const Tensor blocks = blocks_of(reader, *name);
        const rh_tensor view = blocks.view();
        const rh_tensor* pointers[] = {&view};
        const std::string layer_name = name->substr(0, name->rfind('.'));
        rh_format_layer about{};
        about.struct_size = sizeof about;
        about.name = layer_name.c_str();
        about.role = "";
        about.encoding = item.encoding;
        rh_encoded_layer layer{};
        layer.struct_size = sizeof layer;
        layer.layer = &about;
        layer.tensors = pointers;
        code = writer->add_layer(writer, &layer, &error);
      } else {
        const Tensor tensor = reader.read(*name);
        const rh_tensor view = tensor.view();
        code = writer->add_tensor(writer, name->c_str(), &view, &error);
      }
      if (code != RH_OK) throw Error(error.message);
    }
    if (writer->finish(writer, &error) != RH_OK) throw Error(error.message);
    folder.finish();
  }

  fs::path folder() const { return temporary_.path() / "out"; }

 private:
  TempFolder temporary_;
};

// Tensors went on under the header of another export.
TEST(Gguf, GoesOnUnderItsOwnHeaderAlone) {
  const TempFolder temporary;
  const FormatPlugin format("gguf");
  const auto* const resume = static_cast<const rh_resume*>(format->get_extension(format.get(), RH_EXT_RESUME));
  const auto plan_with = [](const json& options) {
    auto plan = std::make_unique<TestPlan>(options, tiny_llama());
    plan->add_tensor("model.norm.weight", {256}, DType::kF32);
    return plan;
  };
  const auto restored = [&](const std::string& saved, const json& options) -> std::string {
    OutputFolder folder(temporary.path() / "out", false, Partial::kTakeUp);
    const auto plan = plan_with(options);
    const ExportSession session(folder, facts(), plan->get(), 1 << 30, nullptr);
    rh_error error{};
    rh_writer* writer = nullptr;
    if (resume->restore(format.get(), session.get(), saved.data(), saved.size(), &writer, &error) != RH_OK)
      return error.message;
    writer->abort(writer);
    return "no error";
  };
  const auto save = [&](const json& options) {
    OutputFolder folder(temporary.path() / "out", false, Partial::kKeep);
    const auto plan = plan_with(options);
    const ExportSession session(folder, facts(), plan->get(), 1 << 30, nullptr);
    rh_error error{};
    rh_writer* writer = nullptr;
    EXPECT_EQ(format->begin(format.get(), session.get(), &writer, &error), RH_OK) << error.message;
    std::string saved;
    const auto take = [](void* into, const void* bytes, uint64_t size) {
      static_cast<std::string*>(into)->assign(static_cast<const char*>(bytes), size);
    };
    EXPECT_EQ(resume->save(writer, take, &saved, &error), RH_OK) << error.message;
    writer->abort(writer);
    return saved;
  };
  const std::string saved = save({{"pre", "qwen2"}});
  EXPECT_EQ(
      restored(saved, {{"pre", "llama-bpe"}}),
      "tiny-llama-F32.gguf: what was saved has another header: the model, its tokenizer or an option of the format "
      "has changed since");
}

class GgufGolden : public testing::TestWithParam<Golden> {
 protected:
  const FormatPlugin format_{"gguf"};
  const TestReader reader_{format_, exports() / GetParam().folder, tiny_llama()};
};

TEST_P(GgufGolden, IsClaimedByItsFormatOnly) {
  for (const char* name : {"auto_round", "auto_gptq", "fake", "gguf"}) {
    const FormatPlugin format(name);
    EXPECT_EQ(format->probe(format.get(), (exports() / GetParam().folder).c_str()) > 0, std::string(name) == "gguf");
  }
}

TEST_P(GgufGolden, DecodesAsThePackageGgufDoesUnderTheSourcesNames) {
  ASSERT_EQ(reader_.error(), "");
  SafetensorsFolder expected(exports() / "gguf_rows.safetensors");
  for (const auto& [name, type] : {std::pair{kKey, GetParam().key_type}, {kValue, GetParam().value_type}}) {
    if (!type) continue;
    const rh_item item = reader_.item(name);
    EXPECT_EQ(item.kind, RH_ITEM_LAYER);
    EXPECT_EQ(json::parse(item.encoding->parameters_json), (json{{"type", type}}));
    const Tensor weight = reader_.read(name, DType::kF32);
    ASSERT_EQ(weight.shape(), (std::vector<int64_t>{128, 256}));
    const Tensor rows = expected.load(cat(GetParam().folder, "/", name));
    EXPECT_EQ(std::memcmp(weight.data(), rows.data(), rows.bytes()), 0) << name;
    EXPECT_TRUE(same_bytes(reader_.read(name, DType::kBF16), weight.to(DType::kBF16)));
  }
  if (GetParam().key_type) {
    EXPECT_TRUE(same_bytes(reader_.read(kNorm), expected.load(cat(GetParam().folder, "/", kNorm))));
  }
}

TEST_P(GgufGolden, IsWrittenAgainWithTheSameBytes) {
  ASSERT_EQ(reader_.error(), "");
  const Rewritten written(format_, reader_);
  const TestReader again(format_, written.folder(), tiny_llama());
  ASSERT_EQ(again.error(), "");
  EXPECT_EQ(again.names(), reader_.names());
  for (const std::string& name : reader_.names()) {
    const bool layer = reader_.item(name).kind == RH_ITEM_LAYER;
    EXPECT_TRUE(layer ? same_bytes(blocks_of(again, name), blocks_of(reader_, name))
                      : same_bytes(again.read(name), reader_.read(name)))
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Reference, GgufGolden, testing::ValuesIn(kGoldens),
                         [](const auto& info) { return info.param.folder; });

TEST(Gguf, ASplitModelIsReadAgainOrRefusedWithoutAllItsParts) {
  const FormatPlugin format("gguf");
  const TestReader reader(format, exports() / "gguf_q8_0", tiny_llama());  // two weights of 34,816 bytes, and a norm
  const Rewritten written(format, reader, {{"split", true}}, 36000);
  const auto part = [&](int number) {
    return written.folder() / cat("tiny-llama-Q8_0-0000", number, "-of-00002.gguf");
  };
  ASSERT_TRUE(fs::exists(part(1)) && fs::exists(part(2)));
  const TestReader again(format, written.folder(), tiny_llama());
  ASSERT_EQ(again.error(), "");
  EXPECT_EQ(again.names(), reader.names());
  for (const std::string& name : {kKey, kValue})
    EXPECT_TRUE(same_bytes(blocks_of(again, name), blocks_of(reader, name)));
  EXPECT_TRUE(same_bytes(again.read(kNorm), reader.read(kNorm)));

  const auto error = [&] { return TestReader(format, written.folder(), tiny_llama()).error(); };
  fs::rename(part(1), part(3));
  EXPECT_NE(error().find("it is part 2 of 2, but file 1 of 2 in the folder"), std::string::npos) << error();
  fs::remove(part(3));
  EXPECT_NE(error().find("it is part 2 of 2, but file 1 of 1 in the folder"), std::string::npos) << error();
  fs::copy(exports() / "gguf_q8_0/tiny-llama-spm-1.4M-Q8_0.gguf", written.folder() / "another.gguf");
  EXPECT_NE(error().find("another.gguf: it is a model of its own, but not the only one"), std::string::npos) << error();
}

TEST(Gguf, AModelThatFitsIntoOneFileIsNotSplit) {
  const FormatPlugin format("gguf");
  const TestReader reader(format, exports() / "gguf_q8_0", tiny_llama());
  const Rewritten written(format, reader, {{"split", true}});
  EXPECT_TRUE(fs::exists(written.folder() / "tiny-llama-Q8_0.gguf"));
}

json facts_of(const TestReader& reader) {
  const char* facts = nullptr;
  rh_error error{};
  if (reader.get()->facts_json(reader.get(), &facts, &error) != RH_OK) throw Error(error.message);
  return json::parse(facts);
}

// What the reader makes of the metadata of a model with this config.json.
json rebuilt_facts(const json& config) {
  const TempFolder temporary;
  const fs::path model = temporary.path() / "model", out = temporary.path() / "out";
  fs::create_directory(model);
  std::ofstream(model / "config.json") << config.dump();
  ExportSession::Facts about = facts();
  about.json["architecture"] =
      Architecture::load(model, {fs::path(ROUNDHOUSE_SOURCE) / "configs/architectures"}).facts();
  TestPlan plan(json::object(), about.json["architecture"]);
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
    if (name[0] == 'm' || !config.value("tie_word_embeddings", false)) plan.add_tensor(name, {1024, 64}, DType::kF16);
  const FormatPlugin format("gguf");
  OutputFolder folder(out, false);
  const ExportSession session(folder, about, plan.get(), 1 << 30, nullptr);
  rh_error error{};
  rh_writer* writer = nullptr;
  if (format->begin(format.get(), session.get(), &writer, &error) != RH_OK) throw Error(error.message);
  const Tensor weight(DType::kF16, {1024, 64});
  const rh_tensor view = weight.view();
  for (uint64_t i = 0; i < plan.get().tensor_count; ++i)
    EXPECT_EQ(writer->add_tensor(writer, plan.get().tensors[i]->name, &view, &error), RH_OK) << error.message;
  if (writer->finish(writer, &error) != RH_OK) throw Error(error.message);
  folder.finish();
  const TestReader reader(format, out);
  EXPECT_EQ(reader.error(), "");
  return facts_of(reader);
}

json rebuilt_config(const json& config) { return rebuilt_facts(config).at("config"); }

TEST(Gguf, ConfigurationsComeBack) {
  const json common{{"architectures", {"LlamaForCausalLM"}},
                    {"model_type", "llama"},
                    {"dtype", "float16"},
                    {"vocab_size", 1024},
                    {"hidden_size", 64},
                    {"intermediate_size", 128},
                    {"num_hidden_layers", 2},
                    {"max_position_embeddings", 8192},
                    {"num_attention_heads", 4},
                    {"num_key_value_heads", 2},
                    {"head_dim", 16},
                    {"rms_norm_eps", 1e-5},
                    {"rope_theta", 500000.0},
                    {"tie_word_embeddings", false}};
  const auto with = [&](const json& changes) {
    json config = common;
    config.update(changes);
    return config;
  };
  const json scaling{{"rope_type", "llama3"},
                     {"factor", 32.0},
                     {"low_freq_factor", 1.0},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 8192}};
  const json windows{{"architectures", {"Qwen3ForCausalLM"}},
                     {"model_type", "qwen3"},
                     {"use_sliding_window", true},
                     {"sliding_window", 512},
                     {"layer_types", {"full_attention", "sliding_attention"}}};
  for (const json& config :
       {common, with({{"tie_word_embeddings", true}}),
        with({{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.5}}}}),
        with({{"rope_scaling",
               {{"rope_type", "yarn"},
                {"factor", 4.0},
                {"original_max_position_embeddings", 2048},
                {"beta_fast", 24.0}}}}),
        with({{"rope_scaling", scaling}}),
        with({{"architectures", {"MistralForCausalLM"}}, {"model_type", "mistral"}, {"sliding_window", 512}}),
        with({{"architectures", {"Qwen2ForCausalLM"}}, {"model_type", "qwen2"}}), with(windows)}) {
    const json rebuilt = rebuilt_config(config);
    for (const auto& [key, value] : config.items())
      EXPECT_EQ(rebuilt.value(key, json()), value) << key << "\n" << config;
  }
}

TEST(Gguf, TheAttentionsFactorOfYarnIsRead) {
  json config = read_json(fs::path(TEST_DATA) / "models/tiny-llama/config.json");
  config["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"attention_factor", 0.6}, {"original_max_position_embeddings", 64}};
  config.erase("rope_parameters");
  EXPECT_NEAR(rebuilt_config(config).at("rope_scaling").at("attention_factor").get<double>(), 0.6, 1e-7);
}

// They were rotated whole.
TEST(Gguf, HeadsThatAreRotatedInPartAreNoConfigJson) {
  json config = read_json(fs::path(TEST_DATA) / "models/tiny-llama/config.json");
  config.erase("rope_parameters");
  EXPECT_FALSE(rebuilt_facts(config).contains("config_problem"));
  config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 2.0}, {"partial_rotary_factor", 0.5}};
  for (const char* family : {"llama", "qwen2"}) {
    config["model_type"] = family;
    EXPECT_EQ(rebuilt_facts(config).value("config_problem", ""),
              cat(family, ".rope.dimension_count is 32 and a head has 64 features, of which the config.json of ",
                  family, " can rotate no part alone"));
  }
}

TEST(Gguf, RotaryFactorsOfNobodyAreNamed) {
  // What Llama 3 would have with other bounds.
  const json scaling{{"rope_type", "llama3"},
                     {"factor", 32.0},
                     {"low_freq_factor", 2.0},
                     {"high_freq_factor", 3.0},
                     {"original_max_position_embeddings", 1024}};
  json config = read_json(fs::path(TEST_DATA) / "models/tiny-llama/config.json");
  config["rope_scaling"] = scaling;
  config["rope_theta"] = 500000.0;
  config.erase("rope_parameters");
  EXPECT_EQ(rebuilt_facts(config).value("config_problem", ""),
            "rope_freqs.weight divides the rotary frequencies otherwise than Llama 3.1's scaling does, and config.json "
            "has no form for that");
}

TEST(Gguf, WithoutAnArchitectureNamesStayTheFilesOwn) {
  const FormatPlugin format("gguf");
  const TestReader reader(format, exports() / "gguf_q8_0");
  EXPECT_EQ(reader.names(),
            (std::vector<std::string>{"blk.0.attn_k.weight", "blk.0.attn_norm.weight", "blk.1.attn_v.weight"}));
}

TEST(Gguf, ThePlanTellsWhatTheFileHasNoOrderFor) {
  const FormatPlugin format("gguf");
  const auto refusal = [&](const json& architecture, int64_t rows) {
    TestPlan plan(json::object(), architecture);
    plan.add_tensor("model.layers.0.self_attn.k_proj.weight", {rows, 256}, DType::kF32);
    return plan.refusal(format);
  };
  json architecture = tiny_llama();
  EXPECT_EQ(refusal(architecture, 128), "");
  EXPECT_NE(refusal(architecture, 127).find("127 rows are no 2 heads"), std::string::npos)
      << refusal(architecture, 127);
  architecture["rotary"] = nullptr;
  EXPECT_EQ(refusal(architecture, 128), "");
  architecture["names"]["gguf"]["sections"] = {1, 1, 2};
  EXPECT_NE(refusal(architecture, 128).find("wants an mrope_section for each pair"), std::string::npos)
      << refusal(architecture, 128);
  architecture = tiny_llama();
  architecture["activations"] = {"gelu"};
  EXPECT_NE(refusal(architecture, 128).find("has silu in its MLPs, and this model has gelu"), std::string::npos)
      << refusal(architecture, 128);
  architecture["names"]["gguf"]["activations"] = {"gelu_new", "gelu"};
  EXPECT_EQ(refusal(architecture, 128), "");
  architecture = tiny_llama();
  architecture["chunked_windows"] = true;
  EXPECT_NE(refusal(architecture, 128).find("has no attention in chunks"), std::string::npos)
      << refusal(architecture, 128);
}

TEST(Gguf, StoresUnquantizedWeightsAsAskedAndNormsInFloat32) {
  const FormatPlugin format("gguf");
  const Tensor key = TestReader(format, exports() / "gguf_q8_0", tiny_llama()).read(kKey, DType::kF32);
  const TempFolder temporary;
  OutputFolder folder(temporary.path() / "plain", false);
  TestPlan plan({{"unquantized", "bf16"}, {"file_type", "BF16"}}, tiny_llama());
  plan.add_tensor(kKey, {128, 256}, DType::kF32);
  plan.add_tensor(kNorm, {256}, DType::kBF16);
  ASSERT_EQ(plan.refusal(format), "");
  const ExportSession session(folder, facts(), plan.get(), 1 << 30, nullptr);
  rh_error error{};
  rh_writer* writer = nullptr;
  ASSERT_EQ(format->begin(format.get(), session.get(), &writer, &error), RH_OK) << error.message;
  const Tensor norm(DType::kBF16, {256});
  for (int i = 0; i < 256; ++i) norm.as<uint16_t>()[i] = static_cast<uint16_t>(0x3f80 + i);
  const rh_tensor key_view = key.view(), norm_view = norm.view();
  EXPECT_EQ(writer->add_tensor(writer, kKey.c_str(), &key_view, &error), RH_OK) << error.message;
  EXPECT_EQ(writer->add_tensor(writer, kKey.c_str(), &key_view, &error), RH_INVALID_ARGUMENT) << "twice";
  EXPECT_EQ(writer->add_tensor(writer, kNorm.c_str(), &norm_view, &error), RH_OK) << error.message;
  ASSERT_EQ(writer->finish(writer, &error), RH_OK) << error.message;
  folder.finish();
  const TestReader plain(format, temporary.path() / "plain", tiny_llama());
  ASSERT_EQ(plain.error(), "");
  EXPECT_TRUE(same_bytes(plain.read(kKey), key.to(DType::kBF16)));
  EXPECT_TRUE(same_bytes(plain.read(kNorm), norm.to(DType::kF32)));
}

// ---- what cannot be read ----

std::string read_bytes(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string golden_file() { return read_bytes(exports() / "gguf_q8_0/tiny-llama-spm-1.4M-Q8_0.gguf"); }

std::string error_of(const std::string& bytes, const json& architecture = tiny_llama()) {
  const TempFolder temporary;
  std::ofstream(temporary.path() / "model.gguf", std::ios::binary) << bytes;
  const FormatPlugin format("gguf");
  return TestReader(format, temporary.path(), architecture).error();
}

template <typename T>
std::string with(std::string bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

template <typename T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string text(const std::string& value) { return raw<uint64_t>(value.size()) + value; }

// The golden file with one more value in front of its metadata, and behind that a text that fills 32 bytes up.
std::string with_value(const std::string& key, uint32_t type, const std::string& value) {
  std::string bytes = golden_file();
  const std::string entry = text(key) + raw(type) + value, filler = text("x") + raw(8u);
  const size_t rest = entry.size() + filler.size() + sizeof(uint64_t);
  bytes = with<uint64_t>(bytes, 16, static_cast<uint8_t>(bytes[16]) + 2);
  return bytes.insert(24, entry + filler + text(std::string((rest + 31) / 32 * 32 - rest, ' ')));
}

// What a reader has besides tensors.
json facts_of(const std::string& bytes, std::string* tokenizer = nullptr) {
  const TempFolder temporary;
  std::ofstream(temporary.path() / "model.gguf", std::ios::binary) << bytes;
  const FormatPlugin format("gguf");
  const TestReader reader(format, temporary.path());
  EXPECT_EQ(reader.error(), "");
  const auto take = [](void* to, const void* contents, uint64_t size) {
    static_cast<std::string*>(to)->assign(static_cast<const char*>(contents), size);
  };
  rh_error error{};
  if (tokenizer) reader.get()->side_file(reader.get(), "tokenizer.json", take, tokenizer, &error);
  return facts_of(reader);
}

std::string replaced(std::string bytes, const std::string& from, const std::string& to) {
  return bytes.replace(bytes.find(from), from.size(), to);
}

TEST(GgufDamaged, NumbersOfTheHeaderAreReadWhateverTheirType) {
  EXPECT_EQ(error_of(with_value("general.alignment", 10, raw<uint64_t>(32))), "");
  EXPECT_NE(error_of(with_value("general.alignment", 10, raw<uint64_t>(24))).find("its alignment is 24"),
            std::string::npos);
  EXPECT_NE(error_of(with_value("general.alignment", 6, raw(32.0f))).find("general.alignment is no whole number"),
            std::string::npos);
  EXPECT_NE(error_of(with_value("split.count", 4, raw<uint32_t>(2))).find("it is part 1 of 2"), std::string::npos);
}

TEST(GgufDamaged, AKeyThatIsThereTwiceIsRefused) {
  EXPECT_NE(error_of(with_value("general.architecture", 8, text("llama"))).find("has general.architecture twice"),
            std::string::npos);
}

TEST(GgufDamaged, AFileWithoutTheEpsilonOfNormsIsNotGivenOne) {
  const json facts = facts_of(replaced(golden_file(), "layer_norm_rms_epsilon", "layer_norm_rms_epsilom"));
  EXPECT_TRUE(facts.at("config").at("rms_norm_eps").is_null());
  EXPECT_EQ(facts.at("config_problem"), "the metadata has no llama.attention.layer_norm_rms_epsilon, which norms need");
  EXPECT_FALSE(facts_of(golden_file()).contains("config_problem"));
}

TEST(GgufDamaged, AFactorOfPositionsWithoutATypeIsLinear) {
  const auto scaling = [](const std::string& key, uint32_t type, const std::string& value) {
    return facts_of(with_value("llama.rope.scaling." + key, type, value)).at("config").value("rope_scaling", json());
  };
  EXPECT_EQ(scaling("factor", 6, raw(2.5f)), json({{"rope_type", "linear"}, {"factor", 2.5}}));
  EXPECT_EQ(scaling("type", 8, text("linear")), json());
  EXPECT_EQ(scaling("type", 8, text("longrope")), json({{"rope_type", "longrope"}, {"factor", nullptr}}));
}

TEST(GgufDamaged, TheIdOfARoleMayBeSigned) {
  const std::string key = text("tokenizer.ggml.bos_token_id");
  std::string as, is;
  facts_of(golden_file(), &as);
  facts_of(replaced(golden_file(), key + raw(4u), key + raw(5u)), &is);
  EXPECT_NE(as.find("TemplateProcessing"), std::string::npos);
  EXPECT_EQ(is, as);
}

TEST(GgufDamaged, ATokenizerThatCannotBeRebuiltIsLeftOut) {
  std::string tokenizer;
  facts_of(golden_file(), &tokenizer);
  EXPECT_NE(tokenizer, "");
  for (const auto& [from, to] : {std::pair<std::string, std::string>("\u2581the", "\xff\xff\xffthe"),
                                 {"tokenizer.ggml.tokens", "tokenizer.ggml.tokenz"}}) {
    tokenizer.clear();
    facts_of(replaced(golden_file(), from, to), &tokenizer);
    EXPECT_EQ(tokenizer, "") << from;
  }
}

TEST(GgufDamaged, ATruncatedFileIsRefusedWhereverItEnds) {
  const std::string whole = golden_file();
  ASSERT_EQ(error_of(whole), "");
  for (size_t size = 0; size < whole.size(); size += size < 600 ? 7 : 1009)
    EXPECT_NE(error_of(whole.substr(0, size)).find("model.gguf: it "), std::string::npos) << size;
}

TEST(GgufDamaged, EachMistakeHasItsWords) {
  const std::string whole = golden_file();
  const size_t tensor = whole.find("blk.0.attn_k.weight") + 19;  // dims, sizes, type, offset
  const size_t key = whole.find("general.architecture");
  const struct {
    const char* name;
    std::string bytes;
    const char* message;
  } cases[] = {
      {"magic", with(whole, 0, 'X'), "it is no GGUF file"},
      {"version", with<uint32_t>(whole, 4, 9), "GGUF's version 9"},
      {"tensor count", with<uint64_t>(whole, 8, uint64_t{1} << 60), "it is too short for 1152921504606846976 entries"},
      {"value count", with<uint64_t>(whole, 16, ~uint64_t{0}), "it is too short for 18446744073709551615 entries"},
      {"text length", with<uint64_t>(whole, key - 8, ~uint64_t{0} / 2), "it ends inside a text"},
      {"value type", with<uint32_t>(whole, key + 20, 99), "a value has the unknown type 99"},
      {"dimensions", with<uint32_t>(whole, tensor, 7), "blk.0.attn_k.weight has 7 dimensions"},
      {"size", with<int64_t>(whole, tensor + 4, int64_t{1} << 62), "has a dimension of"},
      {"negative size", with<int64_t>(whole, tensor + 12, -1), "has a dimension of -1"},
      {"blocks", with<int64_t>(whole, tensor + 4, 250), "250 columns are no whole blocks of q8_0"},
      {"heads", with<int64_t>(whole, tensor + 12, 127), "127 rows are no 2 heads"},
      {"type", with<uint32_t>(whole, tensor + 20, 23), "ggml's type iq4_xs (23), which is not read"},
      {"alignment", with<uint64_t>(whole, tensor + 24, 5), "is not aligned"},
      {"offset", with<uint64_t>(whole, tensor + 24, ~uint64_t{31}), "it ends inside the tensor"},
  };
  for (const auto& c : cases)
    EXPECT_NE(error_of(c.bytes).find(c.message), std::string::npos) << c.name << ": " << error_of(c.bytes);
}

// Of a tensor that an architecture has as two, and of columns that stand in another order.
TEST(GgufDamaged, PairsAndColumnsThatDoNotFitHaveTheirWords) {
  const std::string whole = golden_file();
  const auto of_pair = [&](const char* first, const char* second) {
    json architecture = tiny_llama();
    architecture["names"]["gguf"]["tensors"]["model.layers.{}.self_attn.v_proj"] = {first, second};
    return error_of(whole, architecture);
  };
  EXPECT_NE(of_pair("blk.{}.attn_v", "blk.{}.attn_z")
                .find("the tensor blk.1.attn_v.weight is there without blk.1.attn_z.weight"),
            std::string::npos)
      << of_pair("blk.{}.attn_v", "blk.{}.attn_z");
  EXPECT_NE(of_pair("blk.{}.attn_z", "blk.{}.attn_v").find("the tensor blk.1.attn_v.weight is there twice, or without"),
            std::string::npos)
      << of_pair("blk.{}.attn_z", "blk.{}.attn_v");
  const auto of_columns = [&](int64_t groups, int64_t head) {
    json architecture = tiny_llama();
    architecture["names"]["gguf"]["tiled_columns"] = json::array({"attn_v"});
    architecture["recurrent"] = {{"key_heads", groups}, {"heads", 2 * groups}, {"key_dim", 8}, {"head_dim", head}};
    return error_of(whole, architecture);
  };
  EXPECT_EQ(of_columns(4, 32), "");
  EXPECT_NE(of_columns(8, 16).find("heads of 16 columns are no whole blocks of q8_0"), std::string::npos)
      << of_columns(8, 16);
  EXPECT_NE(of_columns(3, 32).find("attn_v.weight is no matrix of 3 groups of columns"), std::string::npos)
      << of_columns(3, 32);
}

// ---- mixes ----

// What the format assigns to the layers of a Llama; or its message.
struct Assignment {
  json layers;
  std::string error;
};

Assignment assign(const json& plan, const json& architecture, const json& options) {
  const FormatPlugin format("gguf");
  const auto* extension = static_cast<const rh_assign*>(format->get_extension(format.get(), RH_EXT_ASSIGN));
  std::string answer;
  rh_error error{};
  const rh_code code = extension->assign(
      format.get(), plan.dump().c_str(), architecture.dump().c_str(), options.dump().c_str(),
      [](void* context, const char* text) { *static_cast<std::string*>(context) = text; }, &answer, &error);
  return code == RH_OK ? Assignment{json::parse(answer), ""} : Assignment{{}, error.message};
}

json llama_of(int64_t blocks, int64_t heads, int64_t kv_heads, bool tied = false) {
  json facts = tiny_llama();
  facts.update({{"blocks", blocks}, {"heads", heads}, {"kv_heads", kv_heads}, {"tied_head", tied}});
  return facts;
}

const std::map<std::string, std::string> kRoles = {
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"}, {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_gate", "mlp.gate_proj"},  {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},       {"output", "lm_head"},          {"token_embd", "model.embed_tokens"}};

std::string layer_name(const std::string& role, int64_t block) {
  return role == "output" || role == "token_embd" ? kRoles.at(role) : cat("model.layers.", block, ".", kRoles.at(role));
}

json plan_of(int64_t blocks, const std::string& data_type, int64_t cols = 4096) {
  json layers = json::array();
  for (const auto& [role, name] : kRoles)
    for (int64_t block = 0; block < blocks; ++block)
      layers.push_back({{"name", layer_name(role, block)}, {"cols", cols}});
  return {{"data_type", data_type}, {"layers", layers}};
}

TEST(GgufMix, IsTheReferences) {
  size_t compared = 0;
  const json mixes = read_json(exports() / "gguf_mixes.json");
  for (const auto& [name, golden] : mixes.items()) {
    const std::string mix = name.substr(0, name.find(' '));
    std::string base = mix == "Q6_K" || mix[3] != 'K' ? mix : mix.substr(0, 4);
    std::transform(base.begin(), base.end(), base.begin(), [](unsigned char c) { return std::tolower(c); });
    const int64_t blocks = golden.at("blocks");
    const Assignment assigned = assign(
        plan_of(blocks, base), llama_of(blocks, golden.at("heads"), golden.at("kv_heads")), {{"file_type", mix}});
    ASSERT_EQ(assigned.error, "") << name;
    const auto expect = [&](const std::string& role, int64_t block, const std::string& type) {
      EXPECT_EQ(assigned.layers.at(layer_name(role, block)), (json{{"data_type", type}}))
          << name << " " << role << " " << block;
      ++compared;
    };
    for (const auto& [role, types] : golden.at("types").items()) {
      if (types.is_string()) {
        for (int64_t block = 0; block < blocks; ++block) expect(role, block, types);
        continue;
      }
      for (const auto& [type, members] : types.items())
        for (const int64_t block : members) expect(role, block, type);
    }
  }
  EXPECT_EQ(compared, 15 * 9 * (32u + 80 + 16));
}

TEST(GgufMix, FallsBackWhereRowsAreNoWholeBlocks) {
  const json llama = llama_of(2, 4, 2);
  const json narrow = assign(plan_of(2, "q4_k", 160), llama, json::object()).layers;
  EXPECT_EQ(narrow.at("model.layers.0.self_attn.q_proj"),
            (json{{"data_type", "q5_0"}, {"reason", "160 columns are no multiple of 256, so not q4_k"}}));
  EXPECT_EQ(narrow.at("lm_head").at("data_type"), "q8_0");
  const json odd = assign(plan_of(2, "q4_k", 172), llama, json::object()).layers;
  EXPECT_EQ(odd.at("lm_head"),
            (json{{"bits", 16}, {"reason", "172 columns are no multiple of 32, so it stays as it is"}}));
}

TEST(GgufMix, ATiedEmbeddingIsTheHead) {
  const json layers = assign(plan_of(2, "q4_k", 256), llama_of(2, 4, 2, true), json::object()).layers;
  EXPECT_EQ(layers.at("model.embed_tokens").at("data_type"), "q6_k");
  EXPECT_FALSE(layers.contains("lm_head"));
}

TEST(GgufMix, ASchemeThatIsNoBlockTypeIsLeftAlone) {
  EXPECT_EQ(assign(plan_of(2, "int"), llama_of(2, 4, 2), json::object()).layers, json::object());
}

TEST(GgufMix, MistakesHaveTheirWords) {
  const json plan = plan_of(2, "q4_k");
  const auto message = [&](const json& architecture, const json& options) {
    return assign(plan, architecture, options).error;
  };
  EXPECT_NE(message(tiny_llama(), {{"file_type", "Q9"}}).find("the file_type Q9 is none of [\"F32\""),
            std::string::npos);
  EXPECT_EQ(message(tiny_llama(), {{"file_type", "Q6_K"}}),
            "file_type Q6_K consists of q6_k, but the recipe's scheme is q4_k; write scheme: {data_type: q6_k}");
  EXPECT_EQ(message(tiny_llama(), {{"split", "yes"}}), "the option split is not true or false");
  json unknown = tiny_llama();
  unknown["names"] = json::object();
  unknown["family"] = "opt";
  EXPECT_EQ(message(unknown, json::object()),
            "llama.cpp does not run the architecture opt (its descriptor has no names.gguf); choose another format");
}

}  // namespace
}  // namespace roundhouse::formats
