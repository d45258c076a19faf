// SPDX-License-Identifier: Apache-2.0
// roundhouse completions SHELL, roundhouse man: the command line's own tables, for shells and for man.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "host/base/error.h"
#include "host/cli/context.h"

namespace roundhouse::cli {
namespace {

constexpr const char* kCompletions = "completions";
const std::vector<std::string> kShells = {"bash", "zsh", "fish"};

// But for groups of options, which have no name.
std::vector<const CLI::App*> commands_of(const CLI::App* app) {
  return app->get_subcommands([](const CLI::App* command) { return !command->get_name().empty(); });
}

std::vector<const CLI::Option*> options_of(const CLI::App* app) {
  return app->get_options([](const CLI::Option*) { return true; });
}

// "--json"; "" for a positional argument.
std::string long_name(const CLI::Option* option) {
  return option->get_lnames().empty() ? "" : "--" + option->get_lnames().front();
}

bool takes_value(const CLI::Option* option) { return option->get_items_expected_max() > 0; }

// Without what CLI11 adds to it of checks: "INT:INT in [1 - 4096]".
std::string value_name(const CLI::Option* option) {
  const std::string name = option->get_type_name();
  return name.substr(0, name.find(':'));
}

// "-v, --verbose"; "RECIPE" of a positional argument.
std::string names_of(const CLI::Option* option) {
  if (option->get_positional()) return option->get_name(/*positional=*/true);
  std::string names;
  for (const std::string& name : option->get_snames()) names += (names.empty() ? "-" : ", -") + name;
  for (const std::string& name : option->get_lnames()) names += (names.empty() ? "--" : ", --") + name;
  return names;
}

// The commands' names, then options, of a word's place on the command line.
std::vector<std::string> words_of(const CLI::App* app) {
  std::vector<std::string> words;
  for (const CLI::App* command : commands_of(app)) words.push_back(command->get_name());
  for (const CLI::Option* option : options_of(app))
    if (!long_name(option).empty()) words.push_back(long_name(option));
  if (app->get_name() == kCompletions) words.insert(words.end(), kShells.begin(), kShells.end());
  return words;
}

std::string spaced(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// In single quotes of a shell.
std::string quoted(std::string text) {
  for (size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 4) text.replace(at, 1, "'\\''");
  return "'" + text + "'";
}

std::string bash(const CLI::App* app) {
  std::string cases, valued;  // valued: options that may stand before a command, and their value
  for (const CLI::Option* option : options_of(app))
    if (takes_value(option) && !long_name(option).empty()) valued += (valued.empty() ? "" : "|") + long_name(option);
  const auto add = [&](const std::string& place, const CLI::App* command) {
    cases += cat("    ", quoted(place), ") words=", quoted(spaced(words_of(command))), " ;;\n");
  };
  std::string nested;
  for (const CLI::App* command : commands_of(app)) {
    add(command->get_name(), command);
    if (!commands_of(command).empty()) nested += (nested.empty() ? "" : "|") + command->get_name();
    for (const CLI::App* inner : commands_of(command)) add(command->get_name() + " " + inner->get_name(), inner);
  }
  return cat(
      "_roundhouse() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} place='' i words\n"
      "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
      "    case ${COMP_WORDS[i]} in\n"
      "      ",
      valued,
      ") ((++i)); continue ;;\n"
      "      -*) continue ;;\n"
      "    esac\n"
      "    case $place in\n"
      "      '') place=${COMP_WORDS[i]} ;;\n"
      "      ",
      nested.empty() ? "-" : nested,
      ") place+=\" ${COMP_WORDS[i]}\" ;;\n"
      "    esac\n"
      "  done\n"
      "  case $place in\n"
      "    '') words=",
      quoted(spaced(words_of(app))), " ;;\n", cases,
      "  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
      "}\n"
      "complete -o default -F _roundhouse roundhouse\n");
}

// zsh takes functions that are written for bash.
std::string zsh(const CLI::App* app) { return "autoload -U +X bashcompinit && bashcompinit\n" + bash(app); }

std::string fish(const CLI::App* app) {
  std::string text;
  const auto add_options = [&](const CLI::App* command, const std::string& when) {
    for (const CLI::Option* option : options_of(command))
      if (!option->get_lnames().empty())
        text += cat("complete -c roundhouse", when, " -l ", option->get_lnames().front(),
                    takes_value(option) ? " -r" : "", " -d ", quoted(option->get_description()), "\n");
  };
  add_options(app, "");
  for (const CLI::App* command : commands_of(app)) {
    text += cat("complete -c roundhouse -n __fish_use_subcommand -a ", command->get_name(), " -d ",
                quoted(command->get_description()), "\n");
    const std::string when = cat(" -n '__fish_seen_subcommand_from ", command->get_name(), "'");
    add_options(command, when);
    for (const CLI::App* inner : commands_of(command)) {
      text += cat("complete -c roundhouse", when, " -a ", inner->get_name(), " -d ", quoted(inner->get_description()),
                  "\n");
      add_options(inner, cat(" -n '__fish_seen_subcommand_from ", inner->get_name(), "'"));
    }
  }
  return text;
}

// roff gives a meaning to backslashes, dashes, and dots and quotes that begin a line.
std::string roff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '-' || c == '\\') out += '\\';
    out += c;
  }
  return out.starts_with('.') || out.starts_with('\'') ? "\\&" + out : out;
}

std::string man_options(const CLI::App* app) {
  std::string text;
  for (const CLI::Option* option : options_of(app)) {
    text += cat(".TP\n\\fB", roff(names_of(option)), "\\fR",
                takes_value(option) && !option->get_positional() ? cat(" \\fI", roff(value_name(option)), "\\fR") : "",
                "\n", roff(option->get_description()), "\n");
  }
  return text;
}

std::string man(const CLI::App* app) {
  std::string text =
      cat(".TH ROUNDHOUSE 1 \"\" \"roundhouse ", ROUNDHOUSE_VERSION, "\" \"User commands\"\n.SH NAME\nroundhouse \\- ",
          "quantizes large language models\n.SH SYNOPSIS\n\\fBroundhouse\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR ...\n",
          ".SH DESCRIPTION\n", roff(app->get_description()), "\n.SH OPTIONS\n", man_options(app), ".SH COMMANDS\n");
  for (const CLI::App* command : commands_of(app)) {
    text += cat(".SS ", roff(command->get_name()), "\n", roff(command->get_description()), ".\n", man_options(command));
    for (const CLI::App* inner : commands_of(command))
      text += cat(".SS ", command->get_name(), " ", inner->get_name(), "\n", roff(inner->get_description()), ".\n",
                  man_options(inner));
  }
  return text +
         ".SH FILES\nRecipes and all else are described in the documents that come with the program, in "
         "share/doc/roundhouse.\n";
}

}  // namespace

void add_shell_help(CLI::App* app) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* const completions = app->add_subcommand(kCompletions, "Print completions for a shell: bash, zsh or fish");
  completions->add_option("SHELL", *shell)->required()->check(CLI::IsMember(kShells));
  completions->callback([app, shell] {
    std::cout << (*shell == "fish" ? fish(app) : *shell == "zsh" ? zsh(app) : bash(app));
  });
  app->add_subcommand("man", "Print the manual page")->callback([app] { std::cout << man(app); });
}

}  // namespace roundhouse::cli
