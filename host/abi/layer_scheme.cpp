#include "host/abi/layer_scheme.h"

namespace roundhouse {
using nlohmann::json;

SchemeView::SchemeView(const TensorScheme& scheme) : dtype_(scheme.dtype), options_(scheme.options.dump()), view_{} {
  view_.struct_size = sizeof view_;
  view_.bits = scheme.bits;
  view_.dtype = dtype_.c_str();
  view_.symmetric = scheme.symmetric ? 1 : 0;
  view_.rounding = static_cast<int32_t>(scheme.rounding);
  view_.group_rows = scheme.group_rows;
  view_.group_cols = scheme.group_cols;
  view_.dynamic = scheme.dynamic ? 1 : 0;
  if (scheme.scale_dtype) view_.scale_dtype = to_rh(*scheme.scale_dtype);
  view_.scale_threshold = static_cast<float>(scheme.scale_threshold);
  view_.options_json = options_.c_str();
}

json group_size(const TensorScheme& scheme) {
  if (scheme.group_rows > 1) return {scheme.group_rows, scheme.group_cols};
  return scheme.group_cols;
}

json to_json(const Scheme& scheme) {
  json j{{"bits", 16}, {"act_bits", 16}};  // 16: as it is
  if (scheme.weight) {
    const TensorScheme& w = *scheme.weight;
    j.update({{"data_type", w.dtype}, {"bits", w.bits}, {"group_size", group_size(w)}, {"sym", w.symmetric}});
    if (w.scale_dtype) j["scale_dtype"] = config_name(*w.scale_dtype);
    if (w.scale_threshold != 0) j["q_scale_thresh"] = w.scale_threshold;
    if (!w.options.empty()) j["options"] = w.options;
  }
  if (scheme.activation) {
    const TensorScheme& a = *scheme.activation;
    j.update({{"act_data_type", a.dtype},
              {"act_bits", a.bits},
              {"act_group_size", group_size(a)},
              {"act_sym", a.symmetric},
              {"act_dynamic", a.dynamic}});
    if (!a.options.empty()) j["act_options"] = a.options;
  }
  return j;
}

}  // namespace roundhouse
