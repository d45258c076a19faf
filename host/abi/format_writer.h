// SPDX-License-Identifier: Apache-2.0
// Writing a checkpoint through a format plugin.
#pragma once

#include <roundhouse/ext/resume.h>

#include <memory>
#include <string>

#include "host/abi/export_session.h"
#include "host/abi/loaded.h"

namespace roundhouse {

// One export through one format: add, many times, then finish. Without finish() the destructor aborts. Every failure
// throws Error naming plugin, path, call and layer; after one, only the destructor may be called.
// Must not outlive the loaded plugin and the session.
class FormatWriter {
 public:
  // `saved`: what save() gave in an earlier process, to go on from there; nullptr: from the beginning.
  FormatWriter(const LoadedFormat& format, const ExportSession& session, const std::string* saved = nullptr);

  // Whether writers of the format save.
  static bool resumes(const LoadedFormat& format);
  // Forces what came so far to the disk, and returns what a later process needs to go on. REQUIRES: resumes().
  std::string save();

  // layer.struct_size is filled in here.
  void add_layer(rh_encoded_layer layer);
  void add_tensor(const std::string& name, const rh_tensor& tensor);
  void finish();

 private:
  struct Abort {
    std::string plugin;  // for messages
    void operator()(rh_writer* writer) const;
  };

  std::string plugin_;       // for messages
  const rh_resume* resume_;  // nullptr: it starts over
  std::unique_ptr<rh_writer, Abort> writer_;
};

}  // namespace roundhouse
