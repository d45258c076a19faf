// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

#include <CLI/CLI.hpp>
#include <utility>

namespace roundhouse::cli {

Option& Option::required() {
  option_->required();
  return *this;
}
Option& Option::range(int least, int most) {
  option_->check(CLI::Range(least, most));
  return *this;
}
Option& Option::delimiter(char c) {
  option_->delimiter(c);
  return *this;
}
Option& Option::type_name(const char* name) {
  option_->type_name(name);
  return *this;
}
Option& Option::show_default() {
  option_->capture_default_str();
  return *this;
}

Command Command::add_command(const char* name, const char* help) { return Command(app_->add_subcommand(name, help)); }
Command Command::add_choice(const char* name) { return Command(app_->add_option_group(name)->require_option(1)); }

Option Command::add_option(const char* name, std::string& value, const char* help) {
  return Option(app_->add_option(name, value, help));
}
Option Command::add_option(const char* name, std::vector<std::string>& value, const char* help) {
  return Option(app_->add_option(name, value, help));
}
Option Command::add_option(const char* name, std::vector<int32_t>& value, const char* help) {
  return Option(app_->add_option(name, value, help));
}
Option Command::add_option(const char* name, int& value, const char* help) {
  return Option(app_->add_option(name, value, help));
}
void Command::add_flag(const char* name, bool& value, const char* help) { app_->add_flag(name, value, help); }

void Command::require_command() { app_->require_subcommand(1); }
void Command::set_action(std::function<void()> run) { app_->callback(std::move(run)); }

}  // namespace roundhouse::cli
