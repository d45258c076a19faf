// SPDX-License-Identifier: Apache-2.0
// roundhouse qdq: runs one data type on tensors of a file. A plugin author's first tool.
#include <memory>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/checkpoint/safetensors.h"
#include "host/cli/context.h"
#include "host/run/qdq_file.h"

namespace roundhouse::cli {

void add_qdq(Command program, Context& context) {
  struct Options {
    std::string dtype, options = "{}", in, out;
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("qdq", "Quantize and dequantize the tensors of a safetensors file");
  command.add_option("--dtype", o->dtype, "A data type's id or alias").required();
  command.add_option("--options", o->options, "Scheme fields as a JSON object: {\"bits\": 4, \"group_size\": 128}");
  command.add_option("--in", o->in, "weight, and optionally imatrix, the tunables, and grad_qdq").required();
  command.add_option("--out", o->out, "Gets qdq, scale, zp, and the tunables' gradients").required();
  command.set_action([&context, o] {
    nlohmann::json options;
    try {
      options = nlohmann::json::parse(o->options);
    } catch (const nlohmann::json::parse_error& failure) {
      throw Error(cat("--options is not JSON: ", json_problem(failure)));
    }
    require_kind(o->out, "result of qdq", [](const auto& path) { return SafetensorsFolder(path).contains("qdq"); });
    Catalogue catalogue = context.catalogue();
    run_qdq(catalogue, o->dtype, options, o->in, o->out);
  });
}

}  // namespace roundhouse::cli
