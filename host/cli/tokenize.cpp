// SPDX-License-Identifier: Apache-2.0
// roundhouse tokenize: the ids of a text, separated by spaces.
#include <iostream>
#include <memory>

#include "host/base/files.h"
#include "host/base/model_folder.h"
#include "host/cli/context.h"
#include "host/text/tokenizer.h"

namespace roundhouse::cli {

void add_tokenize(Command program, Context&) {
  struct Options {
    std::string model, text;
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("tokenize", "Print the token ids of a text");
  command.add_option("--model", o->model, "The model's folder, or its id on the Hugging Face Hub")
      .required()
      .type_name("DIR");
  command.add_option("--text", o->text, "A text file, UTF-8").required().type_name("FILE");
  command.set_action([o] {
    const Tokenizer tokenizer = Tokenizer::load(find_model(o->model));
    const char* separator = "";
    for (int32_t id : tokenizer.encode(read_file(o->text))) {
      std::cout << separator << id;
      separator = " ";
    }
    std::cout << "\n";
  });
}

}  // namespace roundhouse::cli
