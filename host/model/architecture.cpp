#include "host/model/architecture.h"

#include "host/model/descriptor.h"
#include "host/model/resolve.h"

namespace roundhouse {
namespace {

void append(std::vector<std::string>& names, const LinearInfo& linear) {
  names.push_back(linear.name + ".weight");
  if (linear.has_bias) names.push_back(linear.name + ".bias");
}

void append(std::vector<std::string>& names, const NormInfo& norm) {
  if (norm.has_weight) names.push_back(norm.name + ".weight");
  if (norm.has_bias) names.push_back(norm.name + ".bias");
}

template <typename Info>
void append(std::vector<std::string>& names, const std::optional<Info>& info) {
  if (info) append(names, *info);
}

}  // namespace

Architecture Architecture::load(const std::filesystem::path& model_dir,
                                const std::vector<std::filesystem::path>& descriptor_dirs) {
  Descriptor descriptor = find_descriptor(model_dir, descriptor_dirs);
  Architecture architecture;
  architecture.info_ = resolve(descriptor);
  architecture.config_ = std::move(descriptor.config);
  architecture.descriptor_ = std::move(descriptor.yaml);
  return architecture;
}

std::vector<LinearInfo> Architecture::block_linears(int64_t block) const {
  std::vector<LinearInfo> linears;
  for (const StepInfo& step : info_.blocks.at(static_cast<size_t>(block)).steps) {
    if (const auto& attention = step.attention)
      linears.insert(linears.end(), {attention->q, attention->k, attention->v, attention->o});
    if (const auto& mlp = step.mlp) {
      if (mlp->gate) linears.push_back(*mlp->gate);
      linears.insert(linears.end(), {mlp->up, mlp->down});
    }
  }
  return linears;
}

std::vector<std::string> Architecture::block_tensors(int64_t block) const {
  std::vector<std::string> names;
  for (const StepInfo& step : info_.blocks.at(static_cast<size_t>(block)).steps) {
    append(names, step.norm_in);
    if (step.attention) {
      append(names, step.attention->q_norm);
      append(names, step.attention->k_norm);
    }
    append(names, step.norm_out);
    append(names, step.norm_sum);
  }
  for (const LinearInfo& linear : block_linears(block)) append(names, linear);
  return names;
}

std::vector<std::string> Architecture::outer_tensors() const {
  std::vector<std::string> names{info_.embedding + ".weight"};
  if (info_.learned_positions) names.push_back(info_.learned_positions->name + ".weight");
  append(names, info_.project_in);
  append(names, info_.final_norm);
  append(names, info_.project_out);
  if (!info_.tied_head) names.push_back(info_.head.name + ".weight");
  if (info_.head.has_bias) names.push_back(info_.head.name + ".bias");
  return names;
}

}  // namespace roundhouse
