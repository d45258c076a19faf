// SPDX-License-Identifier: Apache-2.0
#include "validator/model.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>
#include <roundhouse/plugin.hpp>

#include "validator/services.h"

namespace roundhouse::validator {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kHidden = 256, kIntermediate = 512, kKeys = 128, kVocab = 32;
constexpr uint64_t kShardBytes = uint64_t{1} << 30;
const std::string kBlock = "model.layers.0.";

struct LayerShape {
  const char *name, *role;
  int64_t rows, cols;
};
constexpr LayerShape kLayers[] = {{"self_attn.q_proj", "q_proj", kHidden, kHidden},
                                  {"self_attn.k_proj", "k_proj", kKeys, kHidden},
                                  {"self_attn.v_proj", "v_proj", kKeys, kHidden},
                                  {"mlp.down_proj", "down_proj", kHidden, kIntermediate}};

const json kGgufNames = json::parse(R"({"architecture": "llama", "tensors": {
  "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
  "model.layers.{}.input_layernorm": "blk.{}.attn_norm", "model.layers.{}.self_attn.q_proj": "blk.{}.attn_q",
  "model.layers.{}.self_attn.k_proj": "blk.{}.attn_k", "model.layers.{}.self_attn.v_proj": "blk.{}.attn_v",
  "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output", "model.layers.{}.mlp.down_proj": "blk.{}.ffn_down"},
  "interleaved": {"attn_q": "heads", "attn_k": "kv_heads"}})");

json architecture_json() {
  return {{"family", "llama"},
          {"vocab", kVocab},
          {"hidden", kHidden},
          {"intermediate", kIntermediate},
          {"blocks", 1},
          {"positions", 128},
          {"heads", 4},
          {"kv_heads", 2},
          {"head_dim", 64},
          {"norm", "rms"},
          {"norm_eps", 1e-6},
          {"rotary", {{"dims", 64}, {"theta", 10000}, {"scaling", "none"}}},
          {"window_rotary", nullptr},
          {"parallel", false},
          {"attention_scale", nullptr},
          {"attention_softcap", nullptr},
          {"embedding_scale", 1},
          {"residual_scale", 1},
          {"logit_scale", nullptr},
          {"logit_divisor", nullptr},
          {"logit_softcap", nullptr},
          {"tied_head", false},
          {"sliding_windows", {nullptr}},
          {"block_prefix", "model.layers"},
          {"head", "lm_head"},
          {"names", {{"gguf", kGgufNames}}}};
}

json config_json() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"dtype", "bfloat16"},
          {"hidden_size", kHidden},
          {"intermediate_size", kIntermediate},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 64},
          {"num_hidden_layers", 1},
          {"vocab_size", kVocab},
          {"rms_norm_eps", 1e-6},
          {"max_position_embeddings", 128},
          {"tie_word_embeddings", false},
          {"bos_token_id", 0},
          {"eos_token_id", 1}};
}

json tokenizer_json() {
  json vocab{{"<unk>", 2}, {"<s>", 0}, {"</s>", 1}};
  for (int i = 3; i < kVocab; ++i) vocab[std::string(1, static_cast<char>('a' + i - 3))] = i;
  return {{"version", "1.0"},
          {"added_tokens", json::array()},
          {"model",
           {{"type", "BPE"},
            {"byte_fallback", true},
            {"unk_token", "<unk>"},
            {"vocab", vocab},
            {"merges", json::array()}}}};
}

Value random_tensor(std::vector<int64_t> shape, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> out(static_cast<size_t>(count_elements(shape)));
  for (float& x : out) x = static_cast<float>(static_cast<int>(random() % 255) - 127) / 64.0f;
  return to_value(rh::kBF16, std::move(shape), out);
}

void write_text(const fs::path& file, const std::string& text) { std::ofstream(file) << text; }

// The activation's encoding for a layer of `cols` columns.
Encoded for_columns(Encoded encoding, int64_t cols) {
  if (encoding.parameters.contains("group_cols") && encoding.parameters["group_cols"] == 0)
    encoding.parameters["group_cols"] = cols;
  return encoding;
}

// ---- structs for one call, as large as `grow` makes them; nothing of them outlives it ----

template <typename T>
class Grown {
 public:
  Grown(const T& value, uint32_t grow) : bytes_(sizeof(T) + grow, 0xa5) {
    std::memcpy(bytes_.data(), &value, sizeof value);
    get()->struct_size = static_cast<uint32_t>(bytes_.size());
  }
  ~Grown() { std::fill(bytes_.begin(), bytes_.end(), 0xdb); }
  Grown(const Grown&) = delete;
  T* get() { return reinterpret_cast<T*>(bytes_.data()); }

 private:
  std::vector<unsigned char> bytes_;
};

class EncodingStruct {
 public:
  EncodingStruct(const Encoded& encoded, const ExportOptions& options)
      : id_(encoded.id), parameters_(encoded.parameters.dump()), seal_(options.seal), given_(encoded.tensors) {
    parameters_.reserve(64);  // not within the object
    for (const auto& [name, value] : given_) {
      rh_tensor_spec& spec = specs_.add(name.c_str(), value.type, {});
      for (const int64_t size : value.shape) spec.shape[spec.ndim++] = size;
      tensors_.push_back(std::make_unique<Tensor>(value, options.seal));
      pointers_.push_back(tensors_.back()->view());
    }
    encoding_ = std::make_unique<Grown<rh_encoding>>(
        rh_encoding{0, specs_.count(), id_.c_str(), parameters_.c_str(), specs_.data()}, options.grow);
  }
  ~EncodingStruct() {
    if (seal_)
      for (const auto& tensor : tensors_) tensor->seal();
    if (!seal_) return;
    // Nobody gets these bytes again, so that who still reads them reads no parameters.
    static std::vector<std::string> gone;
    parameters_.assign(parameters_.size(), '\x1b');
    gone.push_back(std::move(parameters_));
  }
  const rh_encoding* get() { return encoding_->get(); }
  const rh_tensor* const* tensors() const { return pointers_.data(); }
  // "" or which tensor was changed.
  std::string change() const {
    for (size_t i = 0; i < given_.size(); ++i)
      if (const std::string d = difference(given_[i].second, tensors_[i]->value()); !d.empty())
        return given_[i].first + ", " + d;
    return "";
  }

 private:
  std::string id_, parameters_;
  bool seal_;
  std::vector<std::pair<std::string, Value>> given_;
  rh::Specs specs_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  std::vector<const rh_tensor*> pointers_;
  std::unique_ptr<Grown<rh_encoding>> encoding_;
};

// A layer as formats see it, with its encodings.
class LayerStruct {
 public:
  LayerStruct(const Model::Layer& of, const std::optional<Encoded>& activation, const ExportOptions& options)
      : name_(of.name), role_(of.role), stack_name_(of.stack), encoding_(of.encoded, options) {
    if (activation) activation_.emplace(for_columns(*activation, of.cols), options);
    rh_format_layer layer{};
    layer.dtype = rh::kBF16;
    layer.name = name_.c_str();
    layer.role = role_.c_str();
    layer.rows = of.rows;
    layer.cols = of.cols;
    layer.encoding = encoding_.get();
    layer.activation_encoding = activation_ ? activation_->get() : nullptr;
    if (!of.stack.empty()) {
      stack_ = std::make_unique<Grown<rh_stack>>(rh_stack{0, 0, stack_name_.c_str(), of.index, Model::kExperts},
                                                 options.grow);
      layer.stack = stack_->get();
    }
    layer_ = std::make_unique<Grown<rh_format_layer>>(layer, options.grow);
  }
  ~LayerStruct() {
    name_.assign(name_.size(), '\x1b');
    stack_name_.assign(stack_name_.size(), '\x1b');
  }
  const rh_format_layer* get() { return layer_->get(); }
  const EncodingStruct& encoding() const { return encoding_; }
  const rh_tensor* const* activation_tensors() const { return activation_ ? activation_->tensors() : nullptr; }

 private:
  std::string name_, role_, stack_name_;
  std::unique_ptr<Grown<rh_stack>> stack_;
  EncodingStruct encoding_;
  std::optional<EncodingStruct> activation_;
  std::unique_ptr<Grown<rh_format_layer>> layer_;
};

// Runs call(rh_error*) and throws Refused for an error.
template <typename Call>
void call_format(const std::string& where, bool check_errors, Call&& call) {
  ErrorSlot error;
  const rh_code code = guarded(where, [&] { return call(error.get()); });
  if (check_errors) error.check(code, where);
  if (code == RH_OK) return;
  error.get()->message[sizeof error.get()->message - 1] = 0;
  throw Refused{where, code, error.get()->message};
}

}  // namespace

std::string Model::architecture() { return architecture_json().dump(); }

Model::Model(const LayerKind& kind, const fs::path& folder, unsigned seed, const ModelParts& parts) : kind_(kind) {
  json layers = json::object();
  const auto add = [&](const LayerShape& shape, const std::string& stack, int64_t index) {
    const std::string name = kBlock + shape.name;
    const unsigned own = seed + static_cast<unsigned>(layers_.size());
    layers_.push_back({name, shape.role, shape.rows, shape.cols, random_layer(kind, shape.rows, shape.cols, own),
                       std::nullopt, stack, index});
    if (parts.biases) layers_.back().bias = random_tensor({shape.rows}, own + 100);
    layers[name] = {{"data_type", "made-up"}, {"rounding", "plain"}};
  };
  for (const LayerShape& shape : kLayers) add(shape, "", 0);
  for (int64_t i = 0; parts.experts && i < kExperts; ++i)
    add({text("mlp.experts.", i, ".up_proj").c_str(), "up_proj", kIntermediate, kHidden},
        kBlock + "mlp.experts.up_proj", i);
  const json plan{{"data_type", "made-up"}, {"layers", layers}};
  tensors_ = {{"model.embed_tokens.weight", random_tensor({kVocab, kHidden}, seed + 10)},
              {kBlock + "input_layernorm.weight", random_tensor({kHidden}, seed + 11)},
              {kBlock + "self_attn.o_proj.weight", random_tensor({kHidden, kHidden}, seed + 12)},
              {"model.norm.weight", random_tensor({kHidden}, seed + 13)},
              {"lm_head.weight", random_tensor({kVocab, kHidden}, seed + 14)}};
  facts_.json["config"] = config_json();
  facts_.json["architecture"] = architecture_json();
  facts_.json["plan"] = plan;
  facts_.json["tuning"] = {{"iters", 0}};
  facts_.json["tokenizer"] = {
      {"json", tokenizer_json()}, {"before", {0}}, {"after", json::array()}, {"roles", {{"bos", 0}, {"eos", 1}}}};
  facts_.json["host"] = {{"name", "roundhouse-validate"}, {"version", "0"}};
  facts_.paths["model"] = folder.string();
  fs::create_directories(folder);
  write_text(folder / "config.json", config_json().dump());
  write_text(folder / "tokenizer.json", tokenizer_json().dump());
}

rh_code check_layer(const rh_format* format, const LayerKind& kind, int64_t rows, int64_t cols, ErrorSlot& error,
                    const std::string& format_options, uint32_t grow) {
  ExportOptions options;
  options.grow = grow;
  LayerStruct layer(
      {kBlock + kLayers[0].name, kLayers[0].role, rows, cols, random_layer(kind, rows, cols, 1), std::nullopt, "", 0},
      kind.activation, options);
  return guarded(text("check of ", format->descriptor->id, ", ", kind.label()),
                 [&] { return format->check(format, layer.get(), format_options.c_str(), error.get()); });
}

struct PlanBlock::Parts {
  std::string options, architecture = Model::architecture();
  std::vector<std::string> names;
  std::vector<std::vector<int64_t>> shapes;
  std::vector<std::unique_ptr<LayerStruct>> layers;
  std::vector<std::unique_ptr<Grown<rh_part>>> parts;
  std::vector<std::unique_ptr<Grown<rh_planned_tensor>>> tensors;
  std::vector<const rh_planned_tensor*> pointers;
  std::unique_ptr<Grown<rh_plan>> plan;
};

PlanBlock::PlanBlock(const Model& model, const ExportOptions& options) : parts_(new Parts) {
  ExportOptions grown;
  grown.grow = options.grow;
  const uint32_t grow = options.grow;
  Parts& p = *parts_;
  p.options = options.options;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape, const rh_format_layer* layer) {
    p.names.push_back(name);
    p.shapes.push_back(shape);
    rh_planned_tensor tensor{};
    tensor.ndim = static_cast<int32_t>(shape.size());
    tensor.dtype = rh::kBF16;
    tensor.layer = layer;
    p.tensors.push_back(std::make_unique<Grown<rh_planned_tensor>>(tensor, grow));
  };
  for (const Model::Layer& layer : model.layers()) {
    p.layers.push_back(std::make_unique<LayerStruct>(layer, model.kind().activation, grown));
    add(layer.name + ".weight", {layer.rows, layer.cols}, p.layers.back()->get());
    if (!layer.stack.empty()) {
      p.parts.push_back(std::make_unique<Grown<rh_part>>(
          rh_part{0, 1, layer.stack.c_str(), layer.index, Model::kExperts, 0, 1, 0, 0}, grow));
      p.tensors.back()->get()->part = p.parts.back()->get();
    }
    if (layer.bias) add(layer.name + ".bias", {layer.rows}, nullptr);
  }
  for (const auto& [name, value] : model.tensors()) add(name, value.shape, nullptr);
  if (options.extra) {
    add("model.adapters.table", {3, 5, 7}, nullptr);
    p.tensors.back()->get()->extra = 1;
  }
  for (size_t i = 0; i < p.tensors.size(); ++i) {
    p.tensors[i]->get()->name = p.names[i].c_str();
    p.tensors[i]->get()->shape = p.shapes[i].data();
    p.pointers.push_back(p.tensors[i]->get());
  }
  p.plan = std::make_unique<Grown<rh_plan>>(
      rh_plan{0, 0, p.pointers.size(), p.pointers.data(), p.options.c_str(), p.architecture.c_str()}, grow);
}

PlanBlock::~PlanBlock() = default;
const rh_plan* PlanBlock::get() const { return parts_->plan->get(); }
const std::vector<std::string>& PlanBlock::names() const { return parts_->names; }

Answers ask_plan(const rh_format* format, const Model& model, const ExportOptions& options) {
  const PlanBlock plan(model, options);
  const std::string where = text("plan of ", format->descriptor->id, ", ", model.kind().label());
  expect(format->plan, where, "the function plan", "NULL");
  std::vector<std::pair<uint64_t, std::pair<int32_t, std::string>>> taken;
  call_format(where, options.check_errors, [&](rh_error* error) {
    return format->plan(
        format, plan.get(),
        [](void* list, uint64_t tensor, int32_t what, const char* reason) {
          static_cast<decltype(taken)*>(list)->push_back({tensor, {what, reason ? reason : ""}});
        },
        &taken, error);
  });
  Answers answers;
  for (const auto& [tensor, answer] : taken) {
    expect(tensor < plan.names().size(), where, text("tensors below ", plan.names().size()), text(tensor));
    const std::string& name = plan.names()[tensor];
    expect(answer.first >= RH_TENSOR_PACKED && answer.first <= RH_TENSOR_REFUSED, where, name + ": RH_TENSOR_*",
           text(answer.first));
    expect(answer.first < RH_TENSOR_OMITTED || !answer.second.empty(), where, name + ": a reason", "none");
    expect(answers.emplace(name, answer).second, where, name + ": one answer", "two");
  }
  for (const std::string& name : plan.names()) expect(answers.count(name), where, name + ": an answer", "none");
  return answers;
}

bool takes(const Answers& answers) {
  return std::none_of(answers.begin(), answers.end(),
                      [](const auto& answer) { return answer.second.first == RH_TENSOR_REFUSED; });
}

namespace {

bool takes_plan(const rh_format* format, const LayerKind& kind) {
  const fs::path folder = fs::temp_directory_path() / text("roundhouse-validate.", getpid());
  const Model model(kind, folder, 1);
  fs::remove_all(folder);
  try {
    return takes(ask_plan(format, model));
  } catch (const Refused&) {
    return false;
  }
}

}  // namespace

std::vector<LayerKind> accepted_kinds(const rh_format* format) {
  const rh_format_descriptor& d = *format->descriptor;
  if (d.encoding_count == 0) throw Skip{text(d.id, " is only read: it lists no encoding")};
  std::set<std::string> ids(d.encodings, d.encodings + d.encoding_count);
  std::vector<LayerKind> out;
  for (const LayerKind& kind : layer_kinds()) {
    if (!ids.count(kind.encoding) && !ids.count("*")) continue;
    const bool taken = std::all_of(std::begin(kLayers), std::end(kLayers), [&](const LayerShape& shape) {
      ErrorSlot error;
      return check_layer(format, kind, shape.rows, shape.cols, error) == RH_OK;
    });
    if (taken && takes_plan(format, kind)) out.push_back(kind);
  }
  if (out.empty()) throw Skip{text(d.id, " takes no layer in the encodings of encoding.h")};
  return out;
}

const rh_resume* resume_of(const rh_format* format) {
  if (!format->get_extension) return nullptr;
  const auto* table = static_cast<const rh_resume*>(
      guarded("get_extension", [&] { return format->get_extension(format, RH_EXT_RESUME); }));
  if (table)
    expect(table->struct_size >= sizeof(rh_resume) && table->save && table->restore, "rh_resume", "a whole table",
           "NULL or smaller");
  return table;
}

std::optional<std::vector<Finding>> lint(const rh_format* format, const fs::path& folder, const char* engine,
                                         bool architecture) {
  if (!format->get_extension) return std::nullopt;
  const auto* table =
      static_cast<const rh_lint*>(guarded("get_extension", [&] { return format->get_extension(format, RH_EXT_LINT); }));
  if (!table) return std::nullopt;
  expect(table->struct_size >= sizeof(rh_lint) && table->lint, "rh_lint", "a whole table", "NULL or smaller");
  const std::string path = folder.string(), facts = architecture ? Model::architecture() : "{}";
  const rh_open source{sizeof source, 0, path.c_str(), facts.c_str(), nullptr};
  std::vector<Finding> findings;
  struct Taken {
    std::vector<Finding>* findings;
    std::string wrong;
  } taken{&findings, ""};
  call_format("lint of " + path, true, [&](rh_error* error) {
    return table->lint(
        format, &source, engine,
        [](void* context, const rh_finding* f) {
          auto& t = *static_cast<Taken*>(context);
          if (!f || f->struct_size < sizeof(rh_finding) || !f->engine || !f->file || !f->message || !f->advice)
            t.wrong = "a NULL, or a smaller struct";
          else if (!*f->message)
            t.wrong = "no message";
          else if (f->severity != RH_FINDING_ERROR && f->severity != RH_FINDING_WARNING)
            t.wrong = text("the severity ", f->severity);
          else
            t.findings->push_back({f->severity, f->engine, text(f->file, ": ", f->message, ". ", f->advice)});
        },
        &taken, error);
  });
  expect(taken.wrong.empty(), "lint of " + path, "findings with all texts and a known severity", taken.wrong);
  return findings;
}

Export::Export(const rh_format* format, const Model& model, const fs::path& folder, const ExportOptions& options)
    : format_(format),
      model_(model),
      options_(options),
      folder_(folder, true, options.unfinished),
      plan_(model, options) {
  const ExportSession::Facts none;
  session_ = std::make_unique<ExportSession>(
      folder_, options.facts ? model.facts() : none, *plan_.get(), kShardBytes,
      [this](const rh_encoded_layer& layer, rh_tensor& output) {
        for (const Model::Layer& l : model_.layers()) {
          if (l.name != layer.layer->name) continue;
          const Value weight =
              to_value(output.dtype, {l.rows, l.cols}, decoded(l.encoded, l.rows, l.cols, output.dtype));
          std::memcpy(output.data, weight.bytes.data(), weight.bytes.size());
        }
      },
      test_host());
  rh_export table = *session_->get();
  table.cancelled = options.cancelled;
  export_bytes_.assign(sizeof table + options.grow, 0xa5);
  table.struct_size = static_cast<uint32_t>(export_bytes_.size());
  std::memcpy(export_bytes_.data(), &table, sizeof table);
  const auto* target = reinterpret_cast<const rh_export*>(export_bytes_.data());
  const char* const call = options.saved ? "restore" : "begin";
  call_format(text(call, " of ", format->descriptor->id, ", ", model.kind().label()), options.check_errors,
              [&](rh_error* error) {
                return options.saved ? resume_of(format)->restore(format, target, options.saved->data(),
                                                                  options.saved->size(), &writer_, error)
                                     : format->begin(format, target, &writer_, error);
              });
  expect(writer_ && writer_->struct_size >= sizeof(rh_writer) && writer_->add_layer && writer_->add_tensor &&
             writer_->finish && writer_->abort,
         call, "a whole rh_writer", writer_ ? "one with NULL functions, or a smaller one" : "NULL");
  for (const Model::Layer& layer : model.layers()) steps_.push_back([this, &layer] { add_layer(layer); });
  for (const auto& tensor : model.tensors())
    steps_.push_back([this, &tensor] { add_tensor(tensor.first, tensor.second); });
  if (options.reversed) std::reverse(steps_.begin(), steps_.end());
  if (options.layers >= 0) steps_.resize(static_cast<size_t>(options.layers));
}

Export::~Export() { abort(); }

void Export::abort() {
  if (!writer_) return;
  at("abort");
  rh_writer* writer = std::exchange(writer_, nullptr);
  writer->abort(writer);
}

bool Export::step() {
  if (next_ == steps_.size()) return false;
  steps_[next_++]();
  return true;
}

void Export::add_layer(const Model::Layer& layer) {
  const LayerKind& kind = model_.kind();
  LayerStruct about(layer, kind.activation, options_);
  std::unique_ptr<Tensor> bias;
  if (layer.bias) bias = std::make_unique<Tensor>(*layer.bias, options_.seal);
  Grown<rh_encoded_layer> encoded(
      {0, 0, about.get(), about.encoding().tensors(), bias ? bias->view() : nullptr, about.activation_tensors()},
      options_.grow);
  const std::string where = text("add_layer of ", layer.name, ", ", kind.label());
  call_format(where, options_.check_errors,
              [&](rh_error* error) { return writer_->add_layer(writer_, encoded.get(), error); });
  if (options_.check_inputs)
    expect(about.encoding().change().empty(), where, "inputs stay as they are", about.encoding().change());
  if (bias && options_.seal) bias->seal();
}

void Export::add_tensor(const std::string& name, const Value& value) {
  Tensor tensor(value, options_.seal);
  const std::string where = "add_tensor of " + name;
  std::string given = name;
  call_format(where, options_.check_errors,
              [&](rh_error* error) { return writer_->add_tensor(writer_, given.c_str(), tensor.view(), error); });
  given.assign(given.size(), '\x1b');
  if (options_.check_inputs) {
    const std::string d = difference(value, tensor.value());
    expect(d.empty(), where, "inputs stay as they are", d);
  }
  if (options_.seal) tensor.seal();
}

std::string Export::save() {
  std::vector<std::string> taken;
  call_format("save, " + model_.kind().label(), options_.check_errors, [&](rh_error* error) {
    return resume_of(format_)->save(
        writer_,
        [](void* list, const void* bytes, uint64_t size) {
          static_cast<std::vector<std::string>*>(list)->emplace_back(static_cast<const char*>(bytes), size);
        },
        &taken, error);
  });
  expect(taken.size() == 1, "save", "one call of take", text(taken.size()));
  return taken[0];
}

void Export::finish_writer() {
  rh_writer* writer = std::exchange(writer_, nullptr);
  call_format("finish, " + model_.kind().label(), options_.check_errors,
              [&](rh_error* error) { return writer->finish(writer, error); });
}

void Export::finish() {
  finish_writer();
  folder_.finish();
}

void write_model(const rh_format* format, const Model& model, const fs::path& folder, const ExportOptions& options) {
  Export target(format, model, folder, options);
  while (target.step()) continue;
  target.finish();
}

Opened::Opened(const rh_format* format, const fs::path& folder, const ExportOptions& options) {
  std::string path = folder.string(), architecture = Model::architecture();
  Grown<rh_open> source({0, 0, path.c_str(), architecture.c_str(), options.cancelled}, options.grow);
  call_format("open", options.check_errors,
              [&](rh_error* error) { return format->open(format, source.get(), &reader_, error); });
  path.assign(path.size(), '\x1b');
  architecture.assign(architecture.size(), '\x1b');
  expect(reader_ && reader_->struct_size >= sizeof(rh_reader) && reader_->close && reader_->count && reader_->item &&
             reader_->read,
         "open", "a whole rh_reader", reader_ ? "one with NULL functions, or a smaller one" : "NULL");
}

Opened::~Opened() {
  at("close");
  reader_->close(reader_);
}

ReadItems read_model(const rh_format* format, const fs::path& folder, const ExportOptions& options) {
  const Opened opened(format, folder, options);
  rh_reader* reader = opened.reader();
  ReadItems out;
  const uint64_t count = guarded("count", [&] { return reader->count(reader); });
  expect(count < 1'000'000, "count", "the tensors of a small model", text(count));
  for (uint64_t n = 0; n < count; ++n) {
    const uint64_t i = options.reversed ? count - 1 - n : n;
    Grown<rh_item> grown(rh_item{}, options.grow);
    rh_item& item = *grown.get();
    const uint32_t size = item.struct_size;
    call_format(text("item ", i), options.check_errors,
                [&](rh_error* error) { return reader->item(reader, i, &item, error); });
    expect(item.struct_size == size, text("item ", i), "struct_size as the host set it", text(item.struct_size));
    const std::string name = checked_text(item.name, text("item ", i, ": name"));
    expect(item.ndim >= 0 && item.ndim <= RH_MAX_DIMS && (item.ndim == 0 || item.shape), "item of " + name, "a shape",
           text(item.ndim, " dimensions"));
    const std::vector<int64_t> shape(item.shape, item.shape + item.ndim);
    const bool plausible = std::all_of(shape.begin(), shape.end(), [](int64_t s) { return s >= 0 && s < 1 << 20; });
    expect(plausible && item.dtype.bits > 0 && item.dtype.lanes == 1, "item of " + name, "a shape and an element type",
           shape_text(shape));
    Tensor output(item.dtype, shape, false, 0x5a);
    call_format("read of " + name, options.check_errors,
                [&](rh_error* error) { return reader->read(reader, i, output.view(), error); });
    expect(output.block().damage().empty(), "read of " + name, "no write around the output", output.block().damage());
    ReadItem read{item.kind, output.value(), std::nullopt};
    if (item.encoding && item.encoding->tensor_count > 0 && reader->read_encoded) {
      const rh_encoding& e = *item.encoding;
      std::vector<std::unique_ptr<Tensor>> tensors;
      std::vector<rh_tensor*> pointers;
      for (uint32_t k = 0; k < e.tensor_count; ++k) {
        const rh_tensor_spec& spec = *e.tensors[k];
        tensors.push_back(std::make_unique<Tensor>(spec.dtype, std::vector<int64_t>(spec.shape, spec.shape + spec.ndim),
                                                   false, 0x5a));
        pointers.push_back(tensors.back()->view());
      }
      try {
        call_format("read_encoded of " + name, options.check_errors,
                    [&](rh_error* error) { return reader->read_encoded(reader, i, pointers.data(), error); });
        read.encoded = Encoded{e.id, json::parse(e.parameters_json, nullptr, false), {}};
        for (uint32_t k = 0; k < e.tensor_count; ++k) {
          expect(tensors[k]->block().damage().empty(), "read_encoded of " + name, "no write around the output",
                 tensors[k]->block().damage());
          read.encoded->tensors.emplace_back(e.tensors[k]->name, tensors[k]->value());
        }
      } catch (const Refused& r) {
        if (r.code != RH_UNIMPLEMENTED) throw;  // optional
      }
    }
    expect(out.emplace(name, std::move(read)).second, "item of " + name, "each name once", "twice");
  }
  for (const uint64_t beyond : {count, ~uint64_t{0}}) {
    rh_item item{};
    item.struct_size = sizeof item;
    ErrorSlot error;
    const rh_code code =
        guarded(text("item ", beyond), [&] { return reader->item(reader, beyond, &item, error.get()); });
    if (options.check_errors) {
      error.check(code, text("item ", beyond));
      expect(code != RH_OK, text("item ", beyond), text("an error: there are ", count), "RH_OK");
    }
  }
  return out;
}

void expect_tensor(const std::string& name, const Value& value, const ReadItems& items, const std::string& where) {
  const auto found = items.find(name);
  expect(found != items.end(), where, "the tensor " + name, "it is not there");
  const ReadItem& item = found->second;
  expect(item.kind == RH_ITEM_TENSOR, where + ": " + name, "RH_ITEM_TENSOR", text(item.kind));
  expect(is_float(item.value.type), where + ": " + name, "a float type", type_name(item.value.type));
  const std::string d = difference(to_value(item.value.type, value.shape, floats(value)), item.value);
  expect(d.empty(), where + ": " + name, "the tensor as it was added", d);
}

void expect_model(const Model& model, const ReadItems& items, const std::string& where) {
  for (const auto& [name, value] : model.tensors()) expect_tensor(name, value, items, where);
  for (const Model::Layer& layer : model.layers()) {
    const std::string name = layer.name + ".weight", place = where + ": " + name;
    const auto found = items.find(name);
    expect(found != items.end(), where, "the layer " + name, "it is not there");
    const ReadItem& item = found->second;
    expect(is_float(item.value.type), place, "a float type", type_name(item.value.type));
    expect(item.value.shape == std::vector<int64_t>{layer.rows, layer.cols}, place,
           shape_text({layer.rows, layer.cols}), shape_text(item.value.shape));
    if (has_formula(layer.encoded) || item.kind == RH_ITEM_TENSOR) {
      const Value expected =
          to_value(item.value.type, item.value.shape, decoded(layer.encoded, layer.rows, layer.cols, item.value.type));
      // A zero may lose its sign.
      std::vector<float> a = floats(expected), b = floats(item.value);
      for (size_t i = 0; i < a.size(); ++i)
        if (a[i] != b[i]) fail(text(place, ", element ", i), text("what was encoded means ", a[i]), text(b[i]));
    } else {
      for (const float x : floats(item.value))
        if (!std::isfinite(x)) fail(place, "finite weights", text(x));
    }
    if (!item.encoded) continue;
    expect(item.encoded->id == layer.encoded.id, place, layer.encoded.id, item.encoded->id);
    for (const auto& [key, value] : layer.encoded.tensors) {
      const auto same = std::find_if(item.encoded->tensors.begin(), item.encoded->tensors.end(),
                                     [&](const auto& t) { return t.first == key; });
      expect(same != item.encoded->tensors.end(), place, "the encoded tensor " + key, "it is not there");
      if (!rh::same_type(value.type, same->second.type)) continue;  // a scale stored wider or narrower
      const std::string d = difference(value, same->second);
      // GPTQ's layout mirrors codes whose zero point it cannot hold: other codes, the same weights.
      if (!d.empty() && has_formula(layer.encoded) &&
          decoded(*item.encoded, layer.rows, layer.cols, rh::kF32) ==
              decoded(layer.encoded, layer.rows, layer.cols, rh::kF32))
        continue;
      expect(d.empty(), text(place, ", ", key), "the codes and scales that were added", d);
    }
  }
  for (const auto& [name, item] : items) {
    const bool known =
        std::any_of(model.tensors().begin(), model.tensors().end(), [&](const auto& t) { return t.first == name; }) ||
        std::any_of(model.layers().begin(), model.layers().end(),
                    [&](const auto& l) { return l.name + ".weight" == name || (l.bias && l.name + ".bias" == name); });
    expect(known, where, "the tensors that were added", "also " + name);
  }
}

}  // namespace roundhouse::validator
