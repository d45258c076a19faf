#include "host/abi/format_query.h"

#include "host/abi/plugin_call.h"
#include "host/abi/services.h"
#include "host/base/error.h"

namespace roundhouse {
namespace {

const void* find_extension(const rh_format* format, const char* id) {
  return RH_HAS(format, get_extension) ? format->get_extension(format, id) : nullptr;
}

void take_text(void* context, const char* text) {
  answer_plugin(nullptr, RH_INTERNAL, [&] { *static_cast<std::string*>(context) = text ? text : ""; });
}

}  // namespace

void check_format(const LoadedFormat& format, rh_format_query query) {
  query.struct_size = sizeof query;
  call_plugin(format.label, "check", query.name ? query.name : "",
              [&](rh_error* error) { return format.table->check(format.table, &query, error); });
}

std::string ask_uniform(const LoadedFormat& format, rh_format_query query) {
  const auto* uniform = static_cast<const rh_uniform*>(find_extension(format.table, RH_EXT_UNIFORM));
  if (!RH_HAS(uniform, uniform)) return "";
  query.struct_size = sizeof query;
  std::string answer;
  call_plugin(format.label, "uniform", query.name ? query.name : "",
              [&](rh_error* error) { return uniform->uniform(format.table, &query, &take_text, &answer, error); });
  return answer;
}

nlohmann::json ask_assignment(const LoadedFormat& format, const nlohmann::json& plan,
                              const nlohmann::json& architecture, const nlohmann::json& options) {
  using nlohmann::json;
  const auto* assigner = static_cast<const rh_assign*>(find_extension(format.table, RH_EXT_ASSIGN));
  if (!RH_HAS(assigner, assign)) return json::object();
  std::string answer;
  call_plugin(format.label, "assign", "", [&](rh_error* error) {
    return assigner->assign(format.table, plan.dump().c_str(), architecture.dump().c_str(), options.dump().c_str(),
                            &take_text, &answer, error);
  });
  json assignment = json::parse(answer, nullptr, false);
  bool valid = assignment.is_object();
  if (valid)
    for (const auto& [layer, fields] : assignment.items()) valid = valid && fields.is_object();
  if (!valid) throw Error(cat(format.label, ", assign: the answer is no JSON object of layers"));
  return assignment;
}

}  // namespace roundhouse
