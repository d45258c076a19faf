// SPDX-License-Identifier: Apache-2.0
// Writes a model as one GGUF file or several: headers first, then every tensor at its place, whatever the order they
// come in.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "plugins/formats/gguf/file_type.h"
#include "plugins/formats/gguf/metadata.h"

namespace roundhouse::formats {

constexpr char kGgufMagic[] = {'G', 'G', 'U', 'F'};
constexpr uint32_t kGgufVersion = 3;
constexpr uint64_t kGgufAlignment = 32;

// The option split: a file holds at most the export's largest shard. Throws rh::Error when it is no truth value.
bool wants_split(const Json& options);

// rh_format.plan: which tensors have no place in the file, and why. Throws rh::Error when llama.cpp has no such
// architecture.
void answer_plan(const rh_plan& plan, std::vector<rh::Answer>& answers);

class GgufWriter : public rh::Writer {
 public:
  explicit GgufWriter(const rh_export& target);

  void start(const std::string* saved) override;
  void add_layer(const rh_encoded_layer& layer) override;
  void add_tensor(const std::string& name, const rh_tensor& tensor) override;
  void finish() override;
  std::string save() override;

 private:
  // A tensor of the file.
  struct Slot {
    std::string name;
    const GgmlType* type;
    std::vector<int64_t> shape;  // row-major; the file has it the other way round
    size_t file = 0;
    uint64_t offset = 0;  // in the file
    uint64_t bytes = 0;
    int64_t parts = 0;  // matrices of the source
  };
  // What a tensor of the source is in the file: a tensor, one of a stack's matrices, or two tensors.
  struct Part {
    size_t slot;  // into slots_; the second tensor's is the next
    int64_t index = 0;
    std::vector<int64_t> shape;
    bool two = false;
    bool written = false;
  };

  // A tensor of the source that is a number of the metadata.
  struct Value {
    std::string key;
    int64_t index;  // in the array
    uint64_t offset = 0;
    bool written = false;
  };

  void plan_tensors();
  Slot& add_slot(const std::string& name, const GgmlType& type, std::vector<int64_t> shape);
  const FileType& file_type() const;
  size_t divide();
  Metadata model_metadata() const;
  std::string header(const Metadata& metadata, size_t file);
  void add_two(const std::string& first, const std::string& second, const GgmlType& type,
               const std::vector<int64_t>& shape);
  // Of the source's tensor, stored as `type`.
  uint64_t bytes_of(const Part& part) const;
  void write(Part& part, const uint8_t* rows);
  void write_slot(const Slot& slot, int64_t index, const uint8_t* rows);
  Part& part_of(const std::string& tensor, const rh_tensor* shape);

  const rh_export& target_;
  const Json options_, architecture_;
  const Names names_;
  std::vector<Slot> slots_;
  std::vector<Part> parts_;                  // in the order of the plan, then the rotary factors
  std::map<std::string, size_t> by_source_;  // into parts_
  std::map<std::string, Value> values_;      // by the source's tensors
  std::set<std::string> omitted_;            // of the source
  std::vector<std::unique_ptr<OutputFile>> files_;
  std::vector<uint64_t> heads_;  // hashes of the files' headers
};

}  // namespace roundhouse::formats
