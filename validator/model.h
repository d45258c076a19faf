// SPDX-License-Identifier: Apache-2.0
// A made-up model of one block, exported through a format and read back.
#pragma once

#include <roundhouse/ext/lint.h>
#include <roundhouse/ext/resume.h>
#include <roundhouse/format.h>

#include <map>
#include <memory>
#include <optional>
#include <set>

#include "host/abi/export_session.h"
#include "validator/encodings.h"
#include "validator/pipeline.h"
#include "validator/plugin.h"

namespace roundhouse::validator {

// How an export is driven.
struct ExportOptions {
  bool reversed = false;       // layers and tensors in the opposite order
  bool check_errors = false;   // Failure for an rh_error that is not as abi.h wants it
  bool check_inputs = false;   // Failure for a change of what add_layer and add_tensor were given
  bool seal = false;           // what a call was given cannot be touched after it
  bool facts = true;           // false: the host knows no fact of the model
  uint32_t grow = 0;           // unknown bytes behind every struct
  std::string options = "{}";  // the format's own
  int layers = -1;             // so many are added; -1: all
  bool extra = false;          // the plan has a tensor more, which the architecture does not know
  const volatile int32_t* cancelled = nullptr;
  Partial unfinished = Partial::kRemove;
  const std::string* saved = nullptr;  // what save() gave: restore makes the writer
};

// What a model has that not all have.
struct ModelParts {
  bool biases = false;   // of all quantized layers
  bool experts = false;  // a stack of two, in one tensor of the source, transposed
};

// The model, all its quantized layers of one kind. Writes the source's side files into `folder`.
class Model {
 public:
  struct Layer {
    std::string name, role;
    int64_t rows, cols;
    Encoded encoded;
    std::optional<Value> bias;
    std::string stack;  // its name, or ""
    int64_t index;      // in the stack
  };
  static constexpr int64_t kExperts = 2;

  Model(const LayerKind& kind, const std::filesystem::path& folder, unsigned seed, const ModelParts& parts = {});

  const LayerKind& kind() const { return kind_; }
  const std::vector<Layer>& layers() const { return layers_; }
  const std::vector<std::pair<std::string, Value>>& tensors() const { return tensors_; }  // not quantized
  const ExportSession::Facts& facts() const { return facts_; }
  static std::string architecture();  // as rh_plan has it

 private:
  LayerKind kind_;
  std::vector<Layer> layers_;
  std::vector<std::pair<std::string, Value>> tensors_;
  ExportSession::Facts facts_;
};

// An rh_plan of the model and all that it points to.
class PlanBlock {
 public:
  PlanBlock(const Model& model, const ExportOptions& options);
  ~PlanBlock();
  const rh_plan* get() const;
  // "model.layers.0.mlp.down_proj.weight", in the plan's order.
  const std::vector<std::string>& names() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// What the format answers to the plan: RH_TENSOR_*, reason, by tensor. Throws Refused when it refuses the plan, and
// Failure unless each tensor is answered once, with a reason where it is refused or omitted.
using Answers = std::map<std::string, std::pair<int32_t, std::string>>;
Answers ask_plan(const rh_format* format, const Model& model, const ExportOptions& options = {});
// Whether nothing is refused.
bool takes(const Answers& answers);

// Kinds whose encoding the format lists, whose layers its check takes and whose plan it does not refuse. Throws Skip
// when there is none.
std::vector<LayerKind> accepted_kinds(const rh_format* format);
// Whether check takes a layer [rows, cols] of the kind.
rh_code check_layer(const rh_format* format, const LayerKind& kind, int64_t rows, int64_t cols, ErrorSlot& error,
                    const std::string& options = "{}", uint32_t grow = 0);

// The format's extension, or nullptr. Throws Failure unless it is whole.
const rh_resume* resume_of(const rh_format* format);

struct Finding {
  int32_t severity;
  std::string engine, text;

  bool operator==(const Finding&) const = default;
};
// What the format's linter finds; nullopt: it has none. Throws Refused, and Failure for a finding that is not whole.
std::optional<std::vector<Finding>> lint(const rh_format* format, const std::filesystem::path& folder,
                                         const char* engine = nullptr, bool architecture = true);

// An export in steps: begin, one layer or tensor each, finish.
class Export {
 public:
  // Throws Refused when begin does.
  Export(const rh_format* format, const Model& model, const std::filesystem::path& folder,
         const ExportOptions& options = {});
  ~Export();    // aborts what is not finished
  bool step();  // adds the next one; false when there is none left
  void skip(int steps) { next_ += static_cast<size_t>(steps); }
  int steps() const { return static_cast<int>(steps_.size()); }
  // Of a format that resumes.
  std::string save();
  void finish_writer();
  void finish();  // the writer's, then the host's
  void abort();
  const std::filesystem::path& partial() const { return folder_.partial(); }

 private:
  void add_layer(const Model::Layer& layer);
  void add_tensor(const std::string& name, const Value& value);

  const rh_format* format_;
  const Model& model_;
  ExportOptions options_;
  OutputFolder folder_;
  PlanBlock plan_;
  std::unique_ptr<ExportSession> session_;
  std::vector<unsigned char> export_bytes_;
  rh_writer* writer_ = nullptr;
  std::vector<std::function<void()>> steps_;
  size_t next_ = 0;
};

// All of it. Throws Refused.
void write_model(const rh_format* format, const Model& model, const std::filesystem::path& folder,
                 const ExportOptions& options = {});

// A checkpoint that a format has opened.
class Opened {
 public:
  // Throws Refused.
  Opened(const rh_format* format, const std::filesystem::path& folder, const ExportOptions& options = {});
  Opened(const Opened&) = delete;
  ~Opened();
  rh_reader* reader() const { return reader_; }

 private:
  rh_reader* reader_ = nullptr;
};

// A checkpoint as a format reads it.
struct ReadItem {
  int32_t kind;
  Value value;  // in the item's element type
  std::optional<Encoded> encoded;
};
using ReadItems = std::map<std::string, ReadItem>;
// Throws Refused.
ReadItems read_model(const rh_format* format, const std::filesystem::path& folder, const ExportOptions& options = {});

void expect_tensor(const std::string& name, const Value& value, const ReadItems& items, const std::string& where);
// Throws Failure unless the items are the model; of biases there may be fewer.
void expect_model(const Model& model, const ReadItems& items, const std::string& where);

}  // namespace roundhouse::validator
