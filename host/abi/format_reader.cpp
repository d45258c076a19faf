// SPDX-License-Identifier: Apache-2.0
#include "host/abi/format_reader.h"

#include <cassert>
#include <roundhouse/tensor.hpp>
#include <utility>

#include "host/abi/export_session.h"
#include "host/abi/plugin_call.h"
#include "host/base/cancel.h"
#include "host/base/error.h"
#include "host/base/stacked_source.h"

namespace roundhouse {

void ExportedCheckpoint::Close::operator()(rh_reader* reader) const {
  const ReaderCall here(plugin, "close");
  if (RH_HAS(reader, close)) reader->close(reader);
}

ExportedCheckpoint::ExportedCheckpoint(const LoadedFormat& format, const std::filesystem::path& folder,
                                       const nlohmann::json& architecture)
    : folder_(folder.string()), plugin_(format.label) {
  const std::string facts = architecture.dump();
  const rh_open source{sizeof source, 0, folder_.c_str(), facts.c_str(), cancellation_flag()};
  rh_reader* made = nullptr;
  call_plugin<ReaderCall>(plugin_, "open", folder_,
                          [&](rh_error* error) { return format.table->open(format.table, &source, &made, error); });
  if (!made) throw Error(cat(plugin_, ", open of ", folder_, ": reported success but made nothing"));
  reader_ = {made, {plugin_}};
  for (const auto& [there, name] : {std::pair{RH_HAS(made, close), "close"},
                                    {RH_HAS(made, count), "count"},
                                    {RH_HAS(made, item), "item"},
                                    {RH_HAS(made, read), "read"}})
    if (!there) fail_missing(plugin_, name, "reading");

  const uint64_t count = [&] {
    const ReaderCall here(plugin_, "count", folder_);
    return made->count(made);
  }();
  for (uint64_t i = 0; i < count; ++i) {
    rh_item item{};
    item.struct_size = sizeof item;
    call_plugin<ReaderCall>(plugin_, "item", cat(folder_, ", tensor ", i),
                            [&](rh_error* error) { return made->item(made, i, &item, error); });
    if (!item.name || item.ndim < 0 || item.ndim > RH_MAX_DIMS || (item.ndim > 0 && !item.shape))
      throw Error(cat(plugin_, ", item of ", folder_, ", tensor ", i, ": no name, or no valid shape"));
    names_.emplace_back(item.name);
    if (item.kind != RH_ITEM_TENSOR && item.kind != RH_ITEM_LAYER)
      throw Error(cat(plugin_, ", item of ", folder_, ", ", item.name, ": a kind that this version does not know, ",
                      item.kind));
    const bool quantized = item.kind == RH_ITEM_LAYER;
    Item entry{i,
               from_rh(item.dtype),
               {item.shape, item.shape + item.ndim},
               item.file ? item.file : folder_,
               item.file ? item.offset : 0,
               item.file ? item.bytes : 0,
               quantized,
               nullptr,
               nullptr};
    if (quantized) {
      for (const rh_encoding* encoding : {item.encoding, item.activation_encoding})
        if (const std::string fault = encoding ? encoding_fault(encoding) : ""; !fault.empty())
          throw Error(cat(plugin_, ", item of ", folder_, ", ", item.name, ": ", fault));
      entry.encoding = item.encoding;
      entry.activation_encoding = item.activation_encoding;
    }
    if (!items_.emplace(item.name, entry).second)
      throw Error(cat(plugin_, ", item of ", folder_, ": tensor ", item.name, " is there twice"));
  }
  if (!RH_HAS(made, facts_json)) return;
  const char* recorded = nullptr;
  call_plugin<ReaderCall>(plugin_, "facts_json", folder_,
                          [&](rh_error* error) { return made->facts_json(made, &recorded, error); });
  facts_ = nlohmann::json::parse(recorded ? recorded : "", nullptr, false);
  if (!facts_.is_object()) throw Error(cat(plugin_, ", facts_json of ", folder_, ": the answer is no JSON object"));
}

void ExportedCheckpoint::decode_to(DType dtype) {
  for (auto& [name, item] : items_)
    if (item.quantized) item.dtype = dtype;
}

std::optional<std::string> ExportedCheckpoint::side_file(const std::string& name) {
  if (!RH_HAS(reader_.get(), side_file)) return std::nullopt;
  std::optional<std::string> contents;
  const auto take = [](void* to, const void* bytes, uint64_t size) {
    answer_plugin(
        nullptr, [&] { static_cast<std::optional<std::string>*>(to)->emplace(static_cast<const char*>(bytes), size); });
  };
  rh_error error{};
  const ReaderCall here(plugin_, "side_file", cat(name, " of ", folder_));
  const rh_code code = reader_->side_file(reader_.get(), name.c_str(), take, &contents, &error);
  if (code == RH_OK) return contents;
  if (code == RH_NOT_FOUND) return std::nullopt;
  error.message[sizeof error.message - 1] = 0;
  throw Error(cat(plugin_, ", side_file ", name, " of ", folder_, ": ", error.message));
}

void ExportedCheckpoint::rename(const std::function<std::string(const std::string&)>& new_name) {
  std::vector<std::string> names;
  std::unordered_map<std::string, Item> items;
  for (const std::string& old : names_) {
    const std::string name = new_name(old);
    if (name.empty()) continue;
    if (!items.emplace(name, std::move(items_.at(old))).second)
      throw Error(cat(folder_, ": two tensors would be called ", name));
    names.push_back(name);
  }
  names_ = std::move(names);
  items_ = std::move(items);
}

void ExportedCheckpoint::add(const std::string& name, Tensor tensor) {
  assert(!contains(name));
  names_.push_back(name);
  items_[name] = {0, tensor.dtype(), tensor.shape(), folder_, 0, 0, false, nullptr, nullptr, std::move(tensor)};
}

TensorInfo ExportedCheckpoint::info(const std::string& name) {
  const Item& entry = item(name);
  return {entry.dtype, entry.shape, entry.file};
}

const ExportedCheckpoint::Item& ExportedCheckpoint::item(const std::string& name) const {
  const auto found = items_.find(name);
  if (found == items_.end()) throw Error(cat("there is no tensor ", name, " in ", folder_));
  return found->second;
}

void ExportedCheckpoint::read(const std::string& name, rh_tensor& output) {
  const uint64_t index = item(name).index;
  call_plugin<ReaderCall>(plugin_, "read", cat(name, " in ", folder_),
                          [&](rh_error* error) { return reader_->read(reader_.get(), index, &output, error); });
  read_ += rh::bytes(output);
  if (read_ < kReadBetweenReleases) return;
  release_reader_pages();
  read_ = 0;
}

// A stack's matrices come one after the other, and a reader has no parts of a tensor.
Tensor ExportedCheckpoint::load_matrix(const std::string& name, int64_t index) {
  if (stack_name_ != name) stack_ = load(name);
  stack_name_ = name;
  return stack_.matrix(index);
}

Tensor ExportedCheckpoint::load(const std::string& name) {
  if (item(name).added) return *item(name).added;
  Tensor tensor(item(name).dtype, item(name).shape);
  rh_tensor view = tensor.view();
  read(name, view);
  return tensor;
}

TensorSet ExportedCheckpoint::load_encoded(const std::string& name) {
  if (!RH_HAS(reader_.get(), read_encoded)) fail_missing(plugin_, "read_encoded", "repacking");
  assert(item(name).encoding);
  TensorSet tensors(item(name).encoding->tensors, item(name).encoding->tensor_count);
  call_plugin<ReaderCall>(plugin_, "read_encoded", cat(name, " in ", folder_), [&](rh_error* error) {
    return reader_->read_encoded(reader_.get(), item(name).index, tensors.data(), error);
  });
  return tensors;
}

TensorSet ExportedCheckpoint::load_activation(const std::string& name) {
  assert(item(name).activation_encoding);
  TensorSet tensors(item(name).activation_encoding->tensors, item(name).activation_encoding->tensor_count);
  if (tensors.size() == 0) return tensors;
  if (!RH_HAS(reader_.get(), read_activation)) fail_missing(plugin_, "read_activation", "repacking");
  call_plugin<ReaderCall>(plugin_, "read_activation", cat(name, " in ", folder_), [&](rh_error* error) {
    return reader_->read_activation(reader_.get(), item(name).index, tensors.data(), error);
  });
  return tensors;
}

ExportedCheckpoint* exported_checkpoint(TensorSource& source) {
  if (auto* const stacked = dynamic_cast<StackedSource*>(&source)) return exported_checkpoint(stacked->inner());
  return dynamic_cast<ExportedCheckpoint*>(&source);
}

}  // namespace roundhouse
