// SPDX-License-Identifier: Apache-2.0
// Writing a checkpoint through a format plugin.
#pragma once

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
  FormatWriter(const LoadedFormat& format, const ExportSession& session);

  // layer.struct_size is filled in here.
  void add_layer(rh_encoded_layer layer);
  void add_tensor(const std::string& name, const rh_tensor& tensor);
  void finish();

 private:
  struct Abort {
    std::string plugin;  // for messages
    void operator()(rh_writer* writer) const;
  };

  std::string plugin_;  // for messages
  std::unique_ptr<rh_writer, Abort> writer_;
};

}  // namespace roundhouse
