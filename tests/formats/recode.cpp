#include "tests/formats/recode.h"

#include "host/base/error.h"
#include "host/checkpoint/output.h"

namespace roundhouse::formats {
namespace {

// Tensors as an encoding declares them.
struct Buffers {
  explicit Buffers(const rh_encoding* encoding) {
    for (uint32_t i = 0; encoding && i < encoding->tensor_count; ++i) {
      const rh_tensor_spec& spec = *encoding->tensors[i];
      tensors.emplace_back(from_rh(spec.dtype), std::vector<int64_t>(spec.shape, spec.shape + spec.ndim));
    }
    for (const Tensor& tensor : tensors) views.push_back(tensor.view());
    for (rh_tensor& view : views) pointers.push_back(&view);
  }

  std::vector<Tensor> tensors;
  std::vector<rh_tensor> views;
  std::vector<rh_tensor*> pointers;
};

class Recoder {
 public:
  Recoder(const FormatPlugin& reader, const std::filesystem::path& source, const FormatPlugin& writer,
          const std::filesystem::path& folder)
      : folder_(folder, false) {
    expect([&](rh_error* e) { return reader->open(reader.get(), source.c_str(), &reader_, e); });
    ExportSession::Facts facts;
    facts.json["config"] = read_json(source / "config.json");
    facts.json["config"].erase("quantization_config");
    facts.json["tuning"] = {{"iters", 0}};
    facts.json["plan"] = plan();
    facts.paths["model"] = "/nonexistent";
    session_ = std::make_unique<ExportSession>(folder_, facts, nlohmann::json::object(), uint64_t{1} << 30,
                                               [](const rh_encoded_layer&, rh_tensor&) {});
    expect([&](rh_error* e) { return writer->begin(writer.get(), session_->get(), &writer_, e); });
  }
  ~Recoder() {
    if (writer_) writer_->abort(writer_);
    if (reader_) reader_->close(reader_);
  }

  void run() {
    for (uint64_t i = 0; i < reader_->count(reader_); ++i) {
      const rh_item info = item(i);
      info.kind == RH_ITEM_LAYER ? copy_layer(i, info) : copy_tensor(i, info);
    }
    rh_writer* writer = std::exchange(writer_, nullptr);
    expect([&](rh_error* e) { return writer->finish(writer, e); });
    folder_.finish();
  }

 private:
  template <typename Call>
  static void expect(Call&& call) {
    rh_error error{};
    if (call(&error) != RH_OK) throw Error(error.message);
  }

  rh_item item(uint64_t index) const {
    rh_item info{};
    info.struct_size = sizeof info;
    expect([&](rh_error* e) { return reader_->item(reader_, index, &info, e); });
    return info;
  }

  static std::string layer_name(const rh_item& info) {
    const std::string name = info.name;
    return name.substr(0, name.size() - std::string(".weight").size());
  }

  nlohmann::json plan() const {
    nlohmann::json out{{"block_prefix", "model.layers"}, {"tied_head", false}};
    for (uint64_t i = 0; i < reader_->count(reader_); ++i) {
      const rh_item info = item(i);
      if (info.kind != RH_ITEM_LAYER) continue;
      const rh_scheme& scheme = *info.scheme;
      const nlohmann::json group = scheme.group_rows > 1 ? nlohmann::json{scheme.group_rows, scheme.group_cols}
                                                         : nlohmann::json(scheme.group_cols);
      out["scheme"] = {{"bits", scheme.bits}, {"group_size", group}, {"sym", scheme.symmetric != 0}};
      out["layers"].push_back({{"name", layer_name(info)}, {"quantized", true}, {"scheme", out["scheme"]}});
    }
    return out;
  }

  void copy_layer(uint64_t index, const rh_item& info) {
    Buffers weight(info.encoding), activation(info.activation_encoding);
    expect([&](rh_error* e) { return reader_->read_encoded(reader_, index, weight.pointers.data(), e); });
    if (!activation.tensors.empty()) {
      expect([&](rh_error* e) { return reader_->read_activation(reader_, index, activation.pointers.data(), e); });
    }
    const std::string name = layer_name(info);
    const rh_scheme activation_scheme = *info.scheme;
    rh_encoded_layer layer{};
    layer.struct_size = sizeof layer;
    layer.dtype = info.dtype;
    layer.name = name.c_str();
    layer.role = "";
    layer.rows = info.shape[0];
    layer.cols = info.shape[1];
    layer.scheme = info.scheme;
    layer.encoding = info.encoding;
    layer.tensors = weight.pointers.data();
    layer.activation = info.activation_encoding ? &activation_scheme : nullptr;
    layer.activation_encoding = info.activation_encoding;
    layer.activation_tensors = activation.pointers.data();
    expect([&](rh_error* e) { return writer_->add_layer(writer_, &layer, e); });
  }

  void copy_tensor(uint64_t index, const rh_item& info) {
    Tensor tensor(from_rh(info.dtype), {info.shape, info.shape + info.ndim});
    rh_tensor view = tensor.view();
    expect([&](rh_error* e) { return reader_->read(reader_, index, &view, e); });
    expect([&](rh_error* e) { return writer_->add_tensor(writer_, info.name, &view, e); });
  }

  OutputFolder folder_;
  rh_reader* reader_ = nullptr;
  std::unique_ptr<ExportSession> session_;
  rh_writer* writer_ = nullptr;
};

}  // namespace

std::string recode(const FormatPlugin& reader, const std::filesystem::path& source, const FormatPlugin& writer,
                   const std::filesystem::path& folder) {
  try {
    Recoder(reader, source, writer, folder).run();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace roundhouse::formats
