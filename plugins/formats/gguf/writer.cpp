// SPDX-License-Identifier: Apache-2.0
#include "plugins/formats/gguf/writer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "kernels/floats.h"
#include "plugins/formats/gguf/tokenizer.h"
#include "plugins/formats/lib/text.h"

namespace roundhouse::formats {
namespace {

constexpr int64_t kElementsPerChunk = 1 << 16;
constexpr uint64_t kMetadataAt = 4 + 4 + 8 + 8;  // behind the magic, the version, and the numbers of tensors and values

int64_t elements(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

uint64_t aligned(uint64_t n) { return (n + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment; }

// FNV-1a.
uint64_t hash(const std::string& bytes) {
  uint64_t value = 0xcbf29ce484222325;
  for (const char c : bytes) value = (value ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return value;
}

std::optional<kernels::Element> element_of(rh_data_type type) {
  if (rh::same_type(type, rh::kF32)) return kernels::Element::kF32;
  if (rh::same_type(type, rh::kF16)) return kernels::Element::kF16;
  if (rh::same_type(type, rh::kBF16)) return kernels::Element::kBF16;
  return std::nullopt;
}

const GgmlType* plain_type(rh_data_type type) {
  const auto element = element_of(type);
  if (!element) return nullptr;
  return ggml_type(*element == kernels::Element::kF32 ? "f32" : *element == kernels::Element::kF16 ? "f16" : "bf16");
}

std::string option(const Json& options, const char* key) {
  if (!options.contains(key)) return "";
  rh::require(options.at(key).is_string(), cat("the option ", key, " is not a text"));
  return options.at(key);
}

// As llama.cpp looks for a split model's other files.
std::string file_name(const std::string& model, size_t file, size_t files) {
  if (files == 1) return model + ".gguf";
  char part[64];
  std::snprintf(part, sizeof part, "-%05zu-of-%05zu.gguf", file + 1, files);
  return model + part;
}

// Norms, biases, routers and convolutions are float32, as llama.cpp's kernels want them. Throws rh::Error for an element
// type that GGUF lacks. name: in the file.
const GgmlType& stored_type(const rh_planned_tensor& tensor, const std::string& name, const Names& names,
                            const Json& options) {
  rh::require(!names.second_of(tensor.name) || tensor.ndim == 2, "GGUF has it as two tensors, and it is no matrix");
  if (const Layout* const layout = tensor.ndim > 0 ? names.layout(name, tensor.shape[0]) : nullptr)
    layout->places(tensor.shape[0]);
  if (const Layout* const columns = tensor.ndim == 2 ? names.column_layout(name) : nullptr)
    columns->places(tensor.shape[1]);
  if (tensor.layer) {
    const GgmlType& type = *ggml_type(rh::GgmlBlock::of(*tensor.layer->encoding).facts().name);
    const Layout* const layout = names.layout(name, tensor.shape[0]);
    rh::require(!layout || !layout->transposed,
                "llama.cpp wants a part of it transposed, which finished blocks cannot be: leave it at bits: 16");
    const Layout* const columns = names.column_layout(name);
    rh::require(!columns || columns->parts[0] % type.cols == 0,
                columns ? cat("llama.cpp has its columns in another order, in heads of ", columns->parts[0],
                              " columns, which are no whole blocks of ", type.name)
                        : "");
    return type;
  }
  const GgmlType* source = plain_type(tensor.dtype);
  rh::require(source, "the format stores float32, float16 and bfloat16, and this tensor is none of them");
  if (tensor.ndim < 2 || name.ends_with("_norm.weight") || name.find(".ffn_gate_inp") != std::string::npos ||
      names.reshaped(name))
    return *ggml_type("f32");
  const std::string wanted = option(options, "unquantized");
  if (wanted.empty()) return *source;
  const GgmlType* type = ggml_type(wanted);
  rh::require(type && !type->quantized(), cat("unquantized is f32, f16 or bf16, not ", wanted));
  return *type;
}

bool flag(const Json& options, const char* key) {
  if (!options.contains(key)) return false;
  rh::require(options.at(key).is_boolean(), cat("the option ", key, " is not true or false"));
  return options.at(key);
}

// What a tensor is called; "" and why where it is left out: llama.cpp computes it, or no part of the model reads it.
// Throws rh::Error when it has no name.
std::pair<std::string, const char*> stored_name(const rh_planned_tensor& tensor, const Names& names,
                                                const Json& options) {
  const bool empty = elements({tensor.shape, tensor.shape + tensor.ndim}) == 0;
  if (tensor.extra && (empty || !element_of(tensor.dtype))) return {"", "a buffer, which no part of the model reads"};
  if (tensor.extra && flag(options, "omit_unknown")) return {"", "the architecture does not know it"};
  if (const auto name = names.to_gguf(tensor.name)) return {*name, ""};
  return {"", "llama.cpp computes it"};
}

}  // namespace

bool wants_split(const Json& options) { return flag(options, "split"); }

void answer_plan(const rh_plan& plan, std::vector<rh::Answer>& answers) {
  const Json options = Json::parse(plan.options_json);
  wants_split(options);
  flag(options, "omit_unknown");
  const Json architecture = Json::parse(plan.architecture_json);
  const Names names(architecture);
  names.require_known();
  check_hyperparameters(names, architecture);
  std::map<std::string, std::string> stacks;  // the type of each
  for (uint64_t i = 0; i < plan.tensor_count; ++i) {
    const rh_planned_tensor& tensor = *plan.tensors[i];
    try {
      const auto [name, why] = stored_name(tensor, names, options);
      if (name.empty()) {
        answers[i] = {RH_TENSOR_OMITTED, why};
        continue;
      }
      const GgmlType& type = stored_type(tensor, name, names, options);
      if (!names.place_in_stack(tensor.name)) continue;
      const std::string& first = stacks.emplace(name, type.name).first->second;
      rh::require(first == type.name, cat("GGUF has all experts in one tensor, ", name, ", of one type: the first is ",
                                          first, ", this one ", type.name));
    } catch (const rh::Error& e) {
      answers[i] = {RH_TENSOR_REFUSED, e.what()};
      if (tensor.extra)
        answers[i].reason =
            "the architecture does not know it, and GGUF has no name for it: the option omit_unknown: true leaves such "
            "tensors out; other formats carry them";
    }
  }
}

GgufWriter::GgufWriter(const rh_export& target)
    : target_(target),
      options_(Json::parse(target.plan->options_json)),
      architecture_(Json::parse(target.plan->architecture_json)),
      names_(architecture_) {
  names_.require_known();
  plan_tensors();
}

void GgufWriter::start(const std::string* saved) {
  const size_t files = divide();
  const Json state = saved ? Json::parse(*saved, nullptr, /*allow_exceptions=*/false) : Json::object();
  const Json lengths = state.is_object() ? state.value("lengths", Json()) : Json();
  const Json heads = state.is_object() ? state.value("heads", Json()) : Json();
  if (saved && (lengths.size() != files || !heads.is_array() || heads.size() != files ||
                text_at(state, "written").size() != parts_.size() + values_.size() ||
                !std::all_of(lengths.begin(), lengths.end(), [](const Json& n) { return n.is_number_unsigned(); })))
    throw rh::Error(RH_DATA_LOSS, "what was saved of the GGUF files is damaged, or of other tensors");
  const std::string folder = std::filesystem::path(model_folder(target_)).filename().string();
  const std::string model = cat(folder.empty() ? "model" : folder, "-", file_type().name);
  for (size_t file = 0; file < files; ++file) {
    Metadata metadata = file == 0 ? model_metadata() : Metadata();
    if (files > 1) {
      metadata.u16(kSplitNumber, file);
      metadata.u16(kSplitCount, files);
      metadata.i32("split.tensors.count", static_cast<int64_t>(slots_.size()));
    }
    const std::string head = header(metadata, file);
    if (file == 0)
      for (auto& [tensor, value] : values_)
        value.offset = kMetadataAt + metadata.values_at(value.key) + static_cast<uint64_t>(value.index) * sizeof(float);
    const std::string name = file_name(model, file, files);
    heads_.push_back(hash(head));
    if (saved) {
      if (heads[file] != heads_.back())
        throw rh::Error(RH_DATA_LOSS, cat(name,
                                          ": what was saved has another header: the model, its tokenizer or an "
                                          "option of the format has changed since"));
      files_.push_back(std::make_unique<OutputFile>(target_, name, lengths.at(file).get<uint64_t>()));
      continue;
    }
    files_.push_back(std::make_unique<OutputFile>(target_, name));
    files_.back()->write(head.data(), head.size());
    uint64_t end = 0;
    for (const Slot& slot : slots_)
      if (slot.file == file) end = std::max(end, slot.offset + aligned(slot.bytes));
    if (end > head.size()) files_.back()->write_at(end - 1, "", 1);  // its length tells the host the export's size
  }
  const std::string written = text_at(state, "written");
  for (size_t i = 0; saved && i < parts_.size(); ++i) parts_[i].written = written[i] == '1';
  size_t number = parts_.size();
  for (auto& [tensor, value] : values_) value.written = saved && written[number++] == '1';
  const RotaryFactors factors = rotary_factors(architecture_);
  for (size_t i = 0; i < factors.size(); ++i)
    write(parts_[parts_.size() - factors.size() + i], reinterpret_cast<const uint8_t*>(factors[i].second.data()));
}

void GgufWriter::plan_tensors() {
  const rh_plan& plan = *target_.plan;
  std::map<std::string, size_t> stacks;  // into slots_
  for (uint64_t i = 0; i < plan.tensor_count; ++i) {
    const rh_planned_tensor& tensor = *plan.tensors[i];
    const std::string stored = stored_name(tensor, names_, options_).first;
    if (stored.empty()) {
      omitted_.insert(tensor.name);
      continue;
    }
    if (const auto value = names_.value_of(tensor.name)) {
      rh::require(value->second < architecture_.at("blocks").get<int64_t>(),
                  cat(tensor.name, " is of a block that the model does not have"));
      values_[tensor.name] = {value->first, value->second};
      continue;
    }
    const std::vector<int64_t> shape{tensor.shape, tensor.shape + tensor.ndim};
    const GgmlType& type = stored_type(tensor, stored, names_, options_);
    by_source_[tensor.name] = parts_.size();
    if (const auto second = names_.second_of(tensor.name)) {
      parts_.push_back({slots_.size(), 0, shape, true});
      add_two(stored, *second, type, shape);
      continue;
    }
    const auto index = names_.place_in_stack(tensor.name);
    if (!index) {
      add_slot(stored, type, names_.stored_shape(stored, shape));
      parts_.push_back({slots_.size() - 1, 0, shape});
      continue;
    }
    const auto [slot, first] = stacks.emplace(stored, slots_.size());
    if (first) {
      std::vector<int64_t> stacked = shape;
      stacked.insert(stacked.begin(), 0);
      add_slot(stored, type, stacked).parts = 0;
    }
    parts_.push_back({slot->second, *index, shape});
    Slot& stack = slots_[slot->second];
    stack.shape[0] = ++stack.parts;
  }
  for (const auto& [name, factors] : rotary_factors(architecture_)) {
    add_slot(name, *ggml_type("f32"), {static_cast<int64_t>(factors.size())});
    parts_.push_back({slots_.size() - 1, 0, slots_.back().shape});
  }
  for (Slot& slot : slots_) {
    const int64_t cols = slot.shape.empty() ? 1 : slot.shape.back();
    slot.bytes = static_cast<uint64_t>(elements(slot.shape) / std::max<int64_t>(1, cols) * slot.type->row_bytes(cols));
  }
}

void GgufWriter::add_two(const std::string& first, const std::string& second, const GgmlType& type,
                         const std::vector<int64_t>& shape) {
  const Layout& layout = *names_.layout(first, shape[0]);
  const int64_t rows = layout.first_rows(shape[0]), heads = layout.groups;
  std::vector<int64_t> one = shape, two = shape;
  one[0] = rows;
  two[0] -= rows;
  if (layout.transposed) {
    one = {heads, shape[1], rows / heads};
    two = {heads, two[0] / heads, shape[1]};
  }
  add_slot(first, type, one);
  add_slot(second, type, two);
}

GgufWriter::Slot& GgufWriter::add_slot(const std::string& name, const GgmlType& type, std::vector<int64_t> shape) {
  return slots_.emplace_back(Slot{name, &type, std::move(shape), 0, 0, 0, 1});
}

// Where neither the options nor the recipe's scheme tell, the type of most quantized weights.
const FileType& GgufWriter::file_type() const {
  const Json data_type = model_json(target_, "plan").value("data_type", Json());
  if (const FileType* chosen = chosen_file_type(options_, data_type)) return *chosen;
  std::map<std::string, int64_t> weights;
  for (const Slot& slot : slots_)
    if (slot.shape.size() > 1) weights[slot.type->name] += elements(slot.shape) * (slot.type->quantized() ? 1000 : 1);
  const auto most = std::max_element(weights.begin(), weights.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return *usual_file_type(most == weights.end() ? "f32" : most->first);
}

// Tells each tensor its file, and how many files there are.
size_t GgufWriter::divide() {
  if (!wants_split(options_)) return 1;
  size_t file = 0;
  uint64_t bytes = 0;  // of the file's tensors
  for (Slot& slot : slots_) {
    if (bytes > 0 && bytes + aligned(slot.bytes) > target_.max_shard_bytes) {
      ++file;
      bytes = 0;
    }
    bytes += aligned(slot.bytes);
    slot.file = file;
  }
  return file + 1;
}

Metadata GgufWriter::model_metadata() const {
  const std::string& id = names_.architecture();
  uint64_t parameters = 0;
  for (const Slot& slot : slots_) parameters += static_cast<uint64_t>(elements(slot.shape));
  Metadata metadata;
  metadata.text("general.architecture", id);
  metadata.text("general.type", "model");
  metadata.text("general.name", std::filesystem::path(model_folder(target_)).filename().string());
  metadata.text("general.size_label", size_label(parameters));
  add_hyperparameters(metadata, names_, architecture_);
  metadata.u32("general.file_type", file_type().id);
  metadata.u32("general.quantization_version", 2);
  // The tensors that these are come later.
  for (const Names::Value& value : names_.values())
    metadata.f32s(value.key, std::vector<float>(architecture_.at("blocks").get<size_t>()));
  add_tokenizer(metadata, target_, architecture_.at("vocab"), option(options_, "pre"));
  return metadata;
}

// Everything of a file before its tensors' data; sets their offsets.
std::string GgufWriter::header(const Metadata& metadata, size_t file) {
  const auto in_file = [file](const Slot& slot) { return slot.file == file; };
  ByteWriter out;
  for (const char c : kGgufMagic) out.number(c);
  out.number(kGgufVersion);
  out.number<uint64_t>(std::count_if(slots_.begin(), slots_.end(), in_file));
  out.number<uint64_t>(metadata.count());
  out.append(metadata.bytes());
  uint64_t offset = 0;  // from the data's beginning
  for (Slot& slot : slots_) {
    if (!in_file(slot)) continue;
    out.text(slot.name);
    out.number(static_cast<uint32_t>(slot.shape.size()));
    for (auto size = slot.shape.rbegin(); size != slot.shape.rend(); ++size) out.number<uint64_t>(*size);
    out.number(slot.type->id);
    out.number(offset);
    slot.offset = offset;
    offset += aligned(slot.bytes);
  }
  out.pad(kGgufAlignment);
  for (Slot& slot : slots_)
    if (in_file(slot)) slot.offset += out.bytes().size();
  return out.bytes();
}

GgufWriter::Part& GgufWriter::part_of(const std::string& tensor, const rh_tensor* shaped) {
  const auto found = by_source_.find(tensor);
  if (found == by_source_.end()) throw rh::Error(RH_INVALID_ARGUMENT, cat(tensor, " is not among the plan's tensors"));
  Part& part = parts_[found->second];
  rh::require(!part.written, tensor + " was added before");
  rh::require(!shaped || part.shape == std::vector<int64_t>(shaped->shape, shaped->shape + shaped->ndim),
              cat(tensor, " is ", shaped ? shape_text(*shaped) : "", ", not of the plan's shape"));
  return part;
}

uint64_t GgufWriter::bytes_of(const Part& part) const {
  const Slot& slot = slots_[part.slot];
  return slot.bytes / static_cast<uint64_t>(slot.parts) + (part.two ? slots_[part.slot + 1].bytes : 0);
}

void GgufWriter::write_slot(const Slot& slot, int64_t index, const uint8_t* rows) {
  OutputFile& file = *files_[slot.file];
  const uint64_t bytes = slot.bytes / static_cast<uint64_t>(slot.parts);
  file.write_at(slot.offset + static_cast<uint64_t>(index) * bytes, rows, bytes);
  const char zeros[kGgufAlignment] = {};
  if (index + 1 == slot.parts) file.write_at(slot.offset + slot.bytes, zeros, aligned(slot.bytes) - slot.bytes);
}

void GgufWriter::write(Part& part, const uint8_t* rows) {
  const Slot& slot = slots_[part.slot];
  const Layout* const layout = part.shape.empty() ? nullptr : names_.layout(slot.name, part.shape[0]);
  const Layout* const columns = names_.column_layout(slot.name);
  std::vector<uint8_t> ordered;
  if (layout || columns) {
    ordered = to_file(layout, columns, *slot.type, part.shape, {rows, rows + bytes_of(part)});
    rows = ordered.data();
  }
  write_slot(slot, part.index, rows);
  if (part.two) write_slot(slots_[part.slot + 1], 0, rows + slot.bytes);
  part.written = true;
}

void GgufWriter::add_layer(const rh_encoded_layer& encoded) {
  const std::string name = encoded.layer->name;
  Part& part = part_of(name + ".weight", nullptr);
  const Slot& slot = slots_[part.slot];
  const rh_tensor& blocks = *encoded.tensors[0];
  rh::require(
      rh::GgmlBlock::of(*encoded.layer->encoding).type == slot.type->block && rh::bytes(blocks) == bytes_of(part),
      cat(name, ": the layer's blocks are not those of the plan, ", slot.type->name));
  write(part, rh::data<uint8_t>(blocks));
  if (encoded.bias) add_tensor(name + ".bias", *encoded.bias);
}

void GgufWriter::add_tensor(const std::string& name, const rh_tensor& tensor) {
  if (omitted_.count(name)) return;
  if (const auto value = values_.find(name); value != values_.end()) {
    const auto element = element_of(tensor.dtype);
    rh::require(element && rh::elements(tensor) == 1, name + " is no floating-point number");
    const float number = kernels::load_element(*element, tensor.data, 0);
    files_[0]->write_at(value->second.offset, reinterpret_cast<const uint8_t*>(&number), sizeof number);
    value->second.written = true;
    return;
  }
  Part& part = part_of(name, &tensor);
  const Slot& slot = slots_[part.slot];
  const auto source = element_of(tensor.dtype);
  rh::require(source && !slot.type->quantized(), cat(name, " has another element type than the plan says"));
  const kernels::Element stored = element_of(*slot.type);
  const bool plus_one = names_.plus_one(slot.name), minus_exp = names_.minus_exp(slot.name);
  if (stored == *source && !plus_one && !minus_exp) return write(part, rh::data<uint8_t>(tensor));
  std::vector<uint8_t> converted(bytes_of(part));
  rh::parallel_for(rh::elements(tensor), kElementsPerChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float value = kernels::load_element(*source, tensor.data, i);
      kernels::store_element(stored, converted.data(), i,
                             plus_one    ? value + 1  // a zero keeps its sign
                             : minus_exp ? -std::exp(value)
                                         : value);
    }
  });
  write(part, converted.data());
}

// {"lengths" and "heads": [length, and header's hash, of each file], "written": "1101", a digit for each tensor}
std::string GgufWriter::save() {
  Json lengths = Json::array();
  for (const auto& file : files_) lengths.push_back(file->sync());
  std::string written;
  for (const Part& part : parts_) written += part.written ? '1' : '0';
  for (const auto& [tensor, value] : values_) written += value.written ? '1' : '0';
  return Json{{"lengths", lengths}, {"heads", heads_}, {"written", written}}.dump();
}

void GgufWriter::finish() {
  for (const Part& part : parts_)
    if (!part.written) throw rh::Error(RH_FAILED_PRECONDITION, slots_[part.slot].name + " was never added");
  for (const auto& [tensor, value] : values_)
    if (!value.written) throw rh::Error(RH_FAILED_PRECONDITION, tensor + " was never added");
  for (const auto& file : files_) file->commit();
  // llama.cpp needs the .gguf alone; other programs, and this one, take the rest from beside it.
  write_json(target_, "config.json", model_json(target_, "config"));
  copy_side_files(target_);
}

}  // namespace roundhouse::formats
