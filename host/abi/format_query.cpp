// SPDX-License-Identifier: Apache-2.0
#include "host/abi/format_query.h"

#include <roundhouse/ext/assign.h>
#include <roundhouse/ext/lint.h>

#include "host/abi/plugin_call.h"
#include "host/abi/services.h"
#include "host/base/cancel.h"
#include "host/base/error.h"

namespace roundhouse {
namespace {

const void* find_extension(const rh_format* format, const char* id) {
  return RH_HAS(format, get_extension) ? format->get_extension(format, id) : nullptr;
}

void take_text(void* context, const char* text) {
  answer_plugin(nullptr, [&] { *static_cast<std::string*>(context) = text ? text : ""; });
}

}  // namespace

void check_format(const LoadedFormat& format, const FormatLayer& layer, const nlohmann::json& options) {
  rh_stack stack;
  const rh_format_layer asked = view(layer, stack);
  const std::string text = options.dump();
  call_plugin(format.label, "check", layer.name,
              [&](rh_error* error) { return format.table->check(format.table, &asked, text.c_str(), error); });
}

std::vector<TensorAnswer> ask_plan(const LoadedFormat& format, const rh_plan& plan) {
  struct Answers {
    std::vector<TensorAnswer> tensors;
    std::vector<bool> given;
    bool valid = true;
  } answers{std::vector<TensorAnswer>(plan.tensor_count), std::vector<bool>(plan.tensor_count), true};
  const auto take = [](void* context, uint64_t tensor, int32_t what, const char* reason) {
    answer_plugin(nullptr, [&] {
      auto& all = *static_cast<Answers*>(context);
      if (tensor >= all.tensors.size() || all.given[tensor] || what < RH_TENSOR_PACKED || what > RH_TENSOR_REFUSED) {
        all.valid = false;
        return;
      }
      all.given[tensor] = true;
      all.tensors[tensor] = {what, reason ? reason : ""};
    });
  };
  if (!RH_HAS(format.table, plan)) fail_missing(format.label, "plan", "an export");
  call_plugin(format.label, "plan", "",
              [&](rh_error* error) { return format.table->plan(format.table, &plan, take, &answers, error); });
  for (uint64_t i = 0; i < plan.tensor_count; ++i) {
    const bool whole = answers.valid && answers.given[i];
    if (!whole || (answers.tensors[i].what == RH_TENSOR_REFUSED && answers.tensors[i].reason.empty()))
      throw Error(cat(format.label, ", plan: the answer does not say of each tensor once what is done with it"));
  }
  return std::move(answers.tensors);
}

nlohmann::json ask_assignment(const LoadedFormat& format, const nlohmann::json& layers,
                              const nlohmann::json& architecture, const nlohmann::json& options) {
  using nlohmann::json;
  const auto* assigner = static_cast<const rh_assign*>(find_extension(format.table, RH_EXT_ASSIGN));
  if (!RH_HAS(assigner, assign)) return json::object();
  std::string answer;
  call_plugin(format.label, "assign", "", [&](rh_error* error) {
    return assigner->assign(format.table, layers.dump().c_str(), architecture.dump().c_str(), options.dump().c_str(),
                            &take_text, &answer, error);
  });
  json assignment = json::parse(answer, nullptr, false);
  bool valid = assignment.is_object();
  if (valid)
    for (const auto& [layer, fields] : assignment.items()) valid = valid && fields.is_object();
  if (!valid) throw Error(cat(format.label, ", assign: the answer is no JSON object of layers"));
  return assignment;
}

std::vector<Finding> ask_findings(const LoadedFormat& format, const std::filesystem::path& checkpoint,
                                  const nlohmann::json& architecture) {
  const auto* linter = static_cast<const rh_lint*>(find_extension(format.table, RH_EXT_LINT));
  if (!RH_HAS(linter, lint)) return {};
  struct Answers {
    std::vector<Finding> findings;
    bool valid = true;
  } answers;
  const auto take = [](void* context, const rh_finding* finding) {
    answer_plugin(nullptr, [&] {
      auto& all = *static_cast<Answers*>(context);
      const bool whole = RH_HAS(finding, advice) && finding->engine && finding->file && finding->message &&
                         finding->advice &&
                         (finding->severity == RH_FINDING_ERROR || finding->severity == RH_FINDING_WARNING);
      all.valid = all.valid && whole;
      if (whole)
        all.findings.push_back(
            {finding->severity == RH_FINDING_ERROR, finding->engine, finding->file, finding->message, finding->advice});
    });
  };
  const std::string facts = architecture.dump();
  const rh_open source{sizeof source, 0, checkpoint.c_str(), facts.c_str(), cancellation_flag()};
  call_plugin(format.label, "lint", checkpoint.native(),
              [&](rh_error* error) { return linter->lint(format.table, &source, nullptr, take, &answers, error); });
  if (!answers.valid) throw Error(cat(format.label, ", lint: a finding lacks a text, or has an unknown severity"));
  return std::move(answers.findings);
}

}  // namespace roundhouse
