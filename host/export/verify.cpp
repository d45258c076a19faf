// SPDX-License-Identifier: Apache-2.0
#include "host/export/verify.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/parallel.h"
#include "host/base/words.h"
#include "host/checkpoint/safetensors.h"
#include "host/checkpoint/writer.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

// A format may round scales to float16 (5e-4), engines' layouts to bfloat16 (4e-3). A wrong zero point, order or sign
// changes a weight by more than this.
constexpr double kTolerance = 0.01;

constexpr const char* kFamily = "architecture";  // in the metadata of fingerprints

constexpr int64_t kLanes = 8;  // sums side by side, for the compiler to vectorize

// +1 or -1 for a column: a bit of splitmix64.
float sign_of(int64_t column) {
  uint64_t x = (static_cast<uint64_t>(column) + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x >> 63 ? 1.0f : -1.0f;
}

int64_t rows_of(const Tensor& tensor) { return tensor.shape().size() < 2 ? 1 : tensor.dim(0); }

// What one pass over a tensor finds.
struct Summary {
  std::vector<float> rows;
  bool constant = true;
};

Summary summarize(const Tensor& tensor) {
  const int64_t rows = rows_of(tensor), cols = rows ? tensor.elements() / rows : 0;
  std::vector<float> signs(cols);
  for (int64_t c = 0; c < cols; ++c) signs[c] = sign_of(c);
  Summary summary;
  summary.rows.resize(rows);
  std::vector<float> low(rows), high(rows);
  parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
    const size_t size = size_of(tensor.dtype());
    const Tensor part =
        Tensor(tensor.dtype(), {end - begin, cols}, tensor.as<char>() + begin * cols * size, tensor.storage())
            .to(DType::kF32);
    for (int64_t r = begin; r < end; ++r) {
      const float* row = part.as<float>() + (r - begin) * cols;
      low[r] = high[r] = cols ? row[0] : 0;
      double sums[kLanes] = {};
      float lows[kLanes], highs[kLanes];
      std::fill_n(lows, kLanes, low[r]);
      std::fill_n(highs, kLanes, low[r]);
      const auto take = [&](int64_t c, int64_t lane) {
        sums[lane] += signs[c] * row[c];
        lows[lane] = std::min(lows[lane], row[c]);
        highs[lane] = std::max(highs[lane], row[c]);
      };
      int64_t c = 0;
      for (; c + kLanes <= cols; c += kLanes)
        for (int64_t lane = 0; lane < kLanes; ++lane) take(c + lane, lane);
      for (; c < cols; ++c) take(c, c % kLanes);
      summary.rows[r] = static_cast<float>(std::accumulate(sums, sums + kLanes, 0.0));
      low[r] = *std::min_element(lows, lows + kLanes);
      high[r] = *std::max_element(highs, highs + kLanes);
    }
  });
  for (int64_t r = 0; r < rows; ++r) {
    summary.constant = summary.constant && low[r] == high[r] && low[r] == low[0];
  }
  return summary;
}

bool all_finite(const std::vector<float>& rows) {
  return std::all_of(rows.begin(), rows.end(), [](float row) { return std::isfinite(row); });
}

// Of rows that were finite; infinite when one of them is no longer.
double relative_difference(const std::vector<float>& actual, const std::vector<float>& expected) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(expected[i])) continue;
    if (!std::isfinite(actual[i])) return INFINITY;
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  return size > 0 ? std::sqrt(difference / size) : difference > 0 ? INFINITY : 0;
}

// The linear layers, by the name of their weight, and the other tensors that the architecture needs.
struct Needed {
  std::map<std::string, std::vector<int64_t>> weights;
  std::set<std::string> others;
};

Needed needed_tensors(const Architecture& architecture) {
  Needed needed;
  std::vector<LinearInfo> linears;
  if (!architecture.tied_head() && architecture.has_head()) linears.push_back(architecture.head());
  for (const LinearInfo& linear : architecture.outer_linears()) linears.push_back(linear);
  for (const std::string& name : architecture.outer_tensors()) needed.others.insert(name);
  for (int64_t block = 0; block < architecture.blocks(); ++block) {
    for (const LinearInfo& linear : architecture.block_linears(block)) linears.push_back(linear);
    for (const std::string& name : architecture.block_tensors(block)) needed.others.insert(name);
  }
  for (const LinearInfo& linear : linears) {
    needed.weights[linear.name + ".weight"] = {linear.out_features, linear.in_features};
    needed.others.erase(linear.name + ".weight");
  }
  return needed;
}

}  // namespace

Fingerprints Fingerprints::read(const fs::path& file) {
  Fingerprints out;
  SafetensorsFolder stored(file);
  for (const std::string& name : stored.names()) {
    const Tensor rows = stored.load(name);
    if (rows.dtype() != DType::kF32) throw Error(cat(file.string(), ": ", name, " is not F32; this file is damaged"));
    out.all_[name] = {rows.as<float>(), rows.as<float>() + rows.elements()};
  }
  if (const auto family = stored.metadata().find(kFamily); family != stored.metadata().end())
    out.family = family->second;
  return out;
}

void Fingerprints::add(const std::string& name, const Tensor& tensor) {
  if (is_floating(tensor.dtype()) && tensor.elements() > 0) all_[name] = summarize(tensor).rows;
}

void Fingerprints::write(const fs::path& file) const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, rows] : all_) {
    Tensor tensor(DType::kF32, {static_cast<int64_t>(rows.size())});
    std::copy(rows.begin(), rows.end(), tensor.as<float>());
    tensors.emplace_back(name, std::move(tensor));
  }
  write_safetensors_file(file, tensors, {{kFamily, family}});
}

fs::path fingerprint_file(const fs::path& output) { return output / kNotesFolder / "fingerprints.safetensors"; }

Fingerprints find_fingerprints(const fs::path& checkpoint) {
  fs::path folder = fs::absolute(checkpoint).lexically_normal();
  if (!folder.has_filename() || !fs::is_directory(folder)) folder = folder.parent_path();
  for (const fs::path& output : {folder, folder.parent_path()})
    if (const fs::path file = fingerprint_file(output); fs::exists(file)) return Fingerprints::read(file);
  return {};
}

void verify(const Architecture& architecture, TensorSource& checkpoint, const Fingerprints& fingerprints,
            Verification& result) {
  const auto problem = [&](const auto&... what) { result.problems.push_back(cat(what...)); };
  const auto note = [&](const auto&... what) { result.notes.push_back(cat(what...)); };
  const Needed needed = needed_tensors(architecture);
  const auto is_there = [&](const std::string& name) {
    // A tied head may be stored under either name.
    const std::string embedding = architecture.embedding_name() + ".weight";
    return checkpoint.contains(name) ||
           (architecture.tied_head() && name == embedding && checkpoint.contains(architecture.head().name + ".weight"));
  };
  for (const auto& [name, shape] : needed.weights)
    if (!is_there(name)) problem(name, " is missing");
  for (const std::string& name : needed.others)
    if (!is_there(name)) problem(name, " is missing");
  for (const auto& [name, rows] : fingerprints.all())
    if (!needed.weights.contains(name) && !needed.others.contains(name) && !is_there(name))
      problem(name, " was in the source and is lost");

  for (const std::string& name : checkpoint.names()) {
    try {
      const Tensor tensor = checkpoint.load(name);
      ++result.tensors;
      if (!is_floating(tensor.dtype()) || tensor.elements() == 0) continue;
      const Summary summary = summarize(tensor);
      const auto expected = fingerprints.all().find(name);
      const bool known = expected != fingerprints.all().end();
      if (!all_finite(summary.rows)) {
        if (known && !all_finite(expected->second))
          note(name, " holds NaN or infinity, as the source does");
        else
          problem(name, " holds NaN or infinity");
      }
      if (const auto weight = needed.weights.find(name); weight != needed.weights.end()) {
        if (tensor.shape() != weight->second)
          problem(name, " has the shape ", shape_text(tensor.shape()), ", but config.json says ",
                  shape_text(weight->second));
        if (!known && summary.constant && tensor.elements() > 1)
          note(name, " is one constant, and there is no fingerprint that says whether it was so before");
      }
      if (!known) continue;
      ++result.compared;
      if (expected->second.size() != summary.rows.size()) {
        problem(name, " has ", summary.rows.size(), " rows, and the run's had ", expected->second.size());
        continue;
      }
      const double difference = relative_difference(summary.rows, expected->second);
      if (difference > result.largest || result.largest_of.empty()) {
        result.largest = difference;
        result.largest_of = name;
      }
      if (!std::isfinite(difference) && !all_finite(summary.rows) && all_finite(expected->second)) continue;  // told
      if (!(difference <= kTolerance))
        problem(name, " differs from what the run made by about ", 100 * difference, " %");
    } catch (const Error& e) {
      if (says_nothing(e)) throw;
      problem(name, ": ", e.what());
    }
  }
}

Verification verify(const Architecture& architecture, TensorSource& checkpoint, const Fingerprints& fingerprints) {
  Verification result;
  verify(architecture, checkpoint, fingerprints, result);
  return result;
}

void add_findings(Verification& result, const std::vector<Finding>& findings) {
  std::vector<std::pair<std::string, std::vector<const Finding*>>> told;  // by what is said
  for (const Finding& finding : findings) {
    const std::string text = cat(finding.file, finding.file.empty() ? "" : ": ", finding.message,
                                 finding.advice.empty() ? "" : ". ", finding.advice);
    const auto same = std::find_if(told.begin(), told.end(), [&](const auto& t) {
      return t.first == text && t.second[0]->is_error == finding.is_error;
    });
    (same == told.end() ? told.emplace_back(text, std::vector<const Finding*>()) : *same).second.push_back(&finding);
  }
  for (const auto& [text, by] : told) {
    std::vector<std::string> engines;
    for (const Finding* finding : by) engines.push_back(finding->engine.empty() ? "every engine" : finding->engine);
    (by[0]->is_error ? result.problems : result.notes).push_back(cat("for ", joined(engines), ": ", text));
  }
}

std::vector<std::string> finding_notes(const LoadedFormat& format, const fs::path& checkpoint,
                                       const nlohmann::json& architecture) {
  Verification found;
  try {
    add_findings(found, ask_findings(format, checkpoint, architecture));
  } catch (const Error& e) {
    found.notes.push_back(e.what());
  }
  std::vector<std::string> notes;
  for (const std::string& problem : found.problems) notes.push_back("error " + problem);
  notes.insert(notes.end(), found.notes.begin(), found.notes.end());
  return notes;
}

std::string verification_text(const Verification& result) {
  std::string text = result.files > 0 ? cat(result.files, " files compared with their digests") : "";
  if (result.tensors == 0 && result.files > 0) return text;
  text += cat(text.empty() ? "" : ", ", result.tensors, " tensors read");
  if (result.compared > 0)
    text += cat(", ", result.compared, " compared with the run, the largest difference about ", result.largest, " (",
                result.largest_of, ")");
  return text;
}

}  // namespace roundhouse
