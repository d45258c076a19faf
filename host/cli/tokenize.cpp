// SPDX-License-Identifier: Apache-2.0
// roundhouse tokenize: the ids of a text, separated by spaces.
#include <iostream>
#include <memory>

#include "host/base/files.h"
#include "host/base/model_folder.h"
#include "host/cli/context.h"
#include "host/discovery/model_files.h"
#include "host/text/tokenizer.h"

namespace roundhouse::cli {

void add_tokenize(Command program, Context& context) {
  struct Options {
    std::string model, text;
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("tokenize", "Print the token ids of a text");
  command.add_option("--model", o->model, "The model's folder or file, or its id on the Hugging Face Hub")
      .required()
      .type_name("MODEL");
  command.add_option("--text", o->text, "A text file, UTF-8").required().type_name("FILE");
  command.set_action([&context, o] {
    Catalogue catalogue = context.catalogue();
    const ModelFiles files(catalogue, find_model(o->model));
    const Tokenizer tokenizer = files.read([&] { return Tokenizer::load(files.folder()); });
    const char* separator = "";
    for (int32_t id : tokenizer.encode(read_file(o->text))) {
      std::cout << separator << id;
      separator = " ";
    }
    std::cout << "\n";
  });
}

}  // namespace roundhouse::cli
