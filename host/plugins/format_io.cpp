#include "host/plugins/format_io.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "host/base/error.h"
#include "host/checkpoint/safetensors.h"
#include "host/plugins/plugin_call.h"
#include "host/plugins/services.h"

namespace roundhouse {
namespace {

// True when the model's own config.json says that its weights are quantized.
bool claims_quantization(const std::filesystem::path& folder) {
  std::ifstream file(folder / "config.json");
  const auto config = nlohmann::json::parse(file, nullptr, false);
  return config.is_object() && config.contains("quantization_config");
}

const void* find_extension(const rh_format* format, const char* id) {
  return RH_HAS(format, get_extension) ? format->get_extension(format, id) : nullptr;
}

void take_text(void* context, const char* text) {
  answer_plugin(nullptr, RH_INTERNAL, [&] { *static_cast<std::string*>(context) = text ? text : ""; });
}

}  // namespace

void check_format(Catalogue& catalogue, const std::string& id, rh_format_query query) {
  const rh_format* format = catalogue.format(id);
  query.struct_size = sizeof query;
  call_plugin(plugin_text(id, catalogue.plugin_of_format(id)), "check", query.name ? query.name : "",
              [&](rh_error* error) { return format->check(format, &query, error); });
}

std::string ask_uniform(Catalogue& catalogue, const std::string& id, rh_format_query query) {
  const rh_format* format = catalogue.format(id);
  const auto* uniform = static_cast<const rh_uniform*>(find_extension(format, RH_EXT_UNIFORM));
  if (!RH_HAS(uniform, uniform)) return "";
  query.struct_size = sizeof query;
  std::string answer;
  call_plugin(plugin_text(id, catalogue.plugin_of_format(id)), "uniform", query.name ? query.name : "",
              [&](rh_error* error) { return uniform->uniform(format, &query, &take_text, &answer, error); });
  return answer;
}

nlohmann::json ask_assignment(Catalogue& catalogue, const std::string& id, const nlohmann::json& plan,
                              const nlohmann::json& architecture, const nlohmann::json& options) {
  using nlohmann::json;
  const rh_format* format = catalogue.format(id);
  const auto* assigner = static_cast<const rh_assign*>(find_extension(format, RH_EXT_ASSIGN));
  if (!RH_HAS(assigner, assign)) return json::object();
  const std::string plugin = plugin_text(id, catalogue.plugin_of_format(id));
  std::string answer;
  call_plugin(plugin, "assign", "", [&](rh_error* error) {
    return assigner->assign(format, plan.dump().c_str(), architecture.dump().c_str(), options.dump().c_str(), &take_text,
                            &answer, error);
  });
  json assignment = json::parse(answer, nullptr, false);
  bool valid = assignment.is_object();
  if (valid)
    for (const auto& [layer, fields] : assignment.items()) valid = valid && fields.is_object();
  if (!valid) throw Error(cat(plugin, ", assign: the answer is no JSON object of layers"));
  return assignment;
}

void FormatWriter::Abort::operator()(rh_writer* writer) const {
  const PluginCall here(plugin, "abort");
  if (RH_HAS(writer, abort)) writer->abort(writer);
}

FormatWriter::FormatWriter(Catalogue& catalogue, const std::string& id, const ExportSession& session) {
  const rh_format* format = catalogue.format(id);
  plugin_ = plugin_text(id, catalogue.plugin_of_format(id));
  const std::string folder = session.folder().path().string();
  rh_writer* made = nullptr;
  call_plugin(plugin_, "begin", folder,
              [&](rh_error* error) { return format->begin(format, session.get(), &made, error); });
  if (!made) throw Error(cat(plugin_, ", begin of ", folder, ": reported success but made nothing"));
  writer_ = {made, {plugin_}};
  for (const auto& [there, name] : {std::pair{RH_HAS(made, add_layer), "add_layer"},
                                    {RH_HAS(made, add_tensor), "add_tensor"},
                                    {RH_HAS(made, finish), "finish"},
                                    {RH_HAS(made, abort), "abort"}})
    if (!there) fail_missing(plugin_, name, "an export");
}

void FormatWriter::add_layer(rh_encoded_layer layer) {
  layer.struct_size = sizeof layer;
  call_plugin(plugin_, "add_layer", layer.name,
              [&](rh_error* error) { return writer_->add_layer(writer_.get(), &layer, error); });
}

void FormatWriter::add_tensor(const std::string& name, const rh_tensor& tensor) {
  call_plugin(plugin_, "add_tensor", name,
              [&](rh_error* error) { return writer_->add_tensor(writer_.get(), name.c_str(), &tensor, error); });
}

void FormatWriter::finish() {
  rh_writer* writer = writer_.release();  // gone whatever the result
  call_plugin(plugin_, "finish", "", [&](rh_error* error) { return writer->finish(writer, error); });
}

void ExportedCheckpoint::Close::operator()(rh_reader* reader) const {
  const PluginCall here(plugin, "close");
  if (RH_HAS(reader, close)) reader->close(reader);
}

ExportedCheckpoint::ExportedCheckpoint(Catalogue& catalogue, const std::string& id, const std::filesystem::path& folder,
                                       const nlohmann::json& architecture)
    : folder_(folder.string()) {
  const rh_format* format = catalogue.format(id);
  plugin_ = plugin_text(id, catalogue.plugin_of_format(id));
  const std::string facts = architecture.dump();
  const rh_open source{sizeof source, 0, folder_.c_str(), facts.c_str()};
  rh_reader* made = nullptr;
  call_plugin(plugin_, "open", folder_, [&](rh_error* error) { return format->open(format, &source, &made, error); });
  if (!made) throw Error(cat(plugin_, ", open of ", folder_, ": reported success but made nothing"));
  reader_ = {made, {plugin_}};
  for (const auto& [there, name] : {std::pair{RH_HAS(made, close), "close"},
                                    {RH_HAS(made, count), "count"},
                                    {RH_HAS(made, item), "item"},
                                    {RH_HAS(made, read), "read"}})
    if (!there) fail_missing(plugin_, name, "reading");

  const uint64_t count = [&] {
    const PluginCall here(plugin_, "count", folder_);
    return made->count(made);
  }();
  for (uint64_t i = 0; i < count; ++i) {
    rh_item item{};
    item.struct_size = sizeof item;
    call_plugin(plugin_, "item", cat(folder_, ", tensor ", i),
                [&](rh_error* error) { return made->item(made, i, &item, error); });
    if (!item.name || item.ndim < 0 || item.ndim > RH_MAX_DIMS || (item.ndim > 0 && !item.shape))
      throw Error(cat(plugin_, ", item of ", folder_, ", tensor ", i, ": no name, or no valid shape"));
    names_.emplace_back(item.name);
    const bool quantized = item.kind == RH_ITEM_LAYER;
    Item entry{i, from_rh(item.dtype), {item.shape, item.shape + item.ndim}, quantized, nullptr, nullptr, nullptr};
    if (quantized) {
      for (const rh_encoding* encoding : {item.encoding, item.activation_encoding})
        if (const std::string fault = encoding ? encoding_fault(encoding) : ""; !fault.empty())
          throw Error(cat(plugin_, ", item of ", folder_, ", ", item.name, ": ", fault));
      entry.encoding = item.encoding;
      entry.activation_encoding = item.activation_encoding;
      entry.scheme = item.scheme;
    }
    if (!items_.emplace(item.name, entry).second)
      throw Error(cat(plugin_, ", item of ", folder_, ": tensor ", item.name, " is there twice"));
  }
}

const ExportedCheckpoint::Item& ExportedCheckpoint::item(const std::string& name) const {
  const auto found = items_.find(name);
  if (found == items_.end()) throw Error(cat("there is no tensor ", name, " in ", folder_));
  return found->second;
}

void ExportedCheckpoint::read(const std::string& name, rh_tensor& output) {
  const uint64_t index = item(name).index;
  call_plugin(plugin_, "read", cat(name, " in ", folder_),
              [&](rh_error* error) { return reader_->read(reader_.get(), index, &output, error); });
  release_reader_pages();
}

Tensor ExportedCheckpoint::load(const std::string& name) {
  Tensor tensor(item(name).dtype, item(name).shape);
  rh_tensor view = tensor.view();
  read(name, view);
  return tensor;
}

TensorSet ExportedCheckpoint::load_encoded(const std::string& name) {
  if (!RH_HAS(reader_.get(), read_encoded)) fail_missing(plugin_, "read_encoded", "repacking");
  TensorSet tensors(item(name).encoding->tensors, item(name).encoding->tensor_count);
  call_plugin(plugin_, "read_encoded", cat(name, " in ", folder_), [&](rh_error* error) {
    return reader_->read_encoded(reader_.get(), item(name).index, tensors.data(), error);
  });
  return tensors;
}

TensorSet ExportedCheckpoint::load_activation(const std::string& name) {
  TensorSet tensors(item(name).activation_encoding->tensors, item(name).activation_encoding->tensor_count);
  if (tensors.size() == 0) return tensors;
  if (!RH_HAS(reader_.get(), read_activation)) fail_missing(plugin_, "read_activation", "repacking");
  call_plugin(plugin_, "read_activation", cat(name, " in ", folder_), [&](rh_error* error) {
    return reader_->read_activation(reader_.get(), item(name).index, tensors.data(), error);
  });
  return tensors;
}

std::unique_ptr<TensorSource> open_checkpoint(Catalogue& catalogue, const std::filesystem::path& folder,
                                              const nlohmann::json& architecture, std::string* format_id) {
  std::string surest, loaded;
  int32_t highest = 0;
  for (const FormatRecord* record : catalogue.formats()) {
    const rh_format* format = catalogue.format(record->id);
    const std::string plugin = plugin_text(record->id, record->plugin);
    const PluginCall here(plugin, "probe", folder.native());
    const int32_t score = format->probe(format, folder.c_str());
    if (score > highest) {
      highest = score;
      surest = record->id;
    }
    loaded += cat(loaded.empty() ? "" : ", ", record->id);
  }
  if (format_id) *format_id = surest;
  if (!surest.empty()) return std::make_unique<ExportedCheckpoint>(catalogue, surest, folder, architecture);
  if (claims_quantization(folder))
    throw Error(cat(folder.string(),
                    " is quantized (config.json has quantization_config), but no loaded format reads it. ",
                    "Loaded formats: ", loaded.empty() ? "none" : loaded, ". ", catalogue.where_it_looked()));
  return std::make_unique<SafetensorsFolder>(folder);
}

}  // namespace roundhouse
