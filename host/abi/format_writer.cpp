// SPDX-License-Identifier: Apache-2.0
#include "host/abi/format_writer.h"

#include <utility>

#include "host/abi/plugin_call.h"
#include "host/abi/services.h"
#include "host/base/error.h"

namespace roundhouse {

namespace {

const rh_resume* resume_of(const rh_format* format) {
  const auto* resume = static_cast<const rh_resume*>(
      RH_HAS(format, get_extension) ? format->get_extension(format, RH_EXT_RESUME) : nullptr);
  return RH_HAS(resume, save) && RH_HAS(resume, restore) ? resume : nullptr;
}

}  // namespace

void FormatWriter::Abort::operator()(rh_writer* writer) const {
  const WatchedCall here(plugin, "abort");
  if (RH_HAS(writer, abort)) writer->abort(writer);
}

bool FormatWriter::resumes(const LoadedFormat& format) { return resume_of(format.table) != nullptr; }

FormatWriter::FormatWriter(const LoadedFormat& format, const ExportSession& session, const std::string* saved)
    : plugin_(format.label), resume_(resume_of(format.table)) {
  const std::string folder = session.folder().path().string();
  rh_writer* made = nullptr;
  call_plugin(plugin_, saved ? "restore" : "begin", folder, [&](rh_error* error) {
    return saved ? resume_->restore(format.table, session.get(), saved->data(), saved->size(), &made, error)
                 : format.table->begin(format.table, session.get(), &made, error);
  });
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
  call_plugin(plugin_, "add_layer", layer.layer->name,
              [&](rh_error* error) { return writer_->add_layer(writer_.get(), &layer, error); });
}

void FormatWriter::add_tensor(const std::string& name, const rh_tensor& tensor) {
  call_plugin(plugin_, "add_tensor", name,
              [&](rh_error* error) { return writer_->add_tensor(writer_.get(), name.c_str(), &tensor, error); });
}

std::string FormatWriter::save() {
  std::string saved;
  const auto take = [](void* context, const void* bytes, uint64_t size) {
    answer_plugin(nullptr, [&] { static_cast<std::string*>(context)->assign(static_cast<const char*>(bytes), size); });
  };
  call_plugin(plugin_, "save", "", [&](rh_error* error) { return resume_->save(writer_.get(), take, &saved, error); });
  return saved;
}

void FormatWriter::finish() {
  call_plugin(plugin_, "finish", "", [&](rh_error* error) {
    rh_writer* const writer = writer_.release();  // gone whatever the result
    return writer->finish(writer, error);
  });
}

}  // namespace roundhouse
