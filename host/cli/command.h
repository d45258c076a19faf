// SPDX-License-Identifier: Apache-2.0
// The program's commands and their options. CLI11 stays behind this header: every file that includes it compiles for
// five seconds longer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace roundhouse::cli {

// What else is known of an option. Each function returns the option.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option& required();
  // Allows `least` to `most`.
  Option& range(int least, int most);
  // Lets one word hold several values.
  Option& delimiter(char c);
  // The word of --help for the value, instead of its C++ type.
  Option& type_name(const char* name);
  // Shows the value that the variable has now in --help.
  Option& show_default();

 private:
  CLI::Option* option_;
};

// The program, or a command of it. A handle, to be copied freely; what it names lives as long as the program's CLI::App.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  Command add_command(const char* name, const char* help);
  // Options of which exactly one must be given.
  Command add_choice(const char* name);

  // A name without dashes is a positional argument. `value` must live until the command has run.
  Option add_option(const char* name, std::string& value, const char* help);
  Option add_option(const char* name, std::vector<std::string>& value, const char* help);
  Option add_option(const char* name, std::vector<int32_t>& value, const char* help);
  Option add_option(const char* name, int& value, const char* help);
  void add_flag(const char* name, bool& value, const char* help);

  // Makes one of its commands obligatory.
  void require_command();
  // `run` does the command's work, and throws Error.
  void set_action(std::function<void()> run);

 private:
  CLI::App* app_;
};

}  // namespace roundhouse::cli
