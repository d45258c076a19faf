// SPDX-License-Identifier: Apache-2.0
// The validator, run on a fixture.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace roundhouse {

struct ValidatorRun {
  int exit_code;
  std::string output;  // standard output and error
  nlohmann::json json() const {
    nlohmann::json out = nlohmann::json::parse(output, nullptr, false);
    if (out.is_discarded()) throw std::runtime_error("not JSON: " + output);
    return out;
  }
  // The result of one test; null when it is not among them.
  nlohmann::json test(const std::string& id) const {
    const nlohmann::json all = json();
    for (const auto& test : all.at("tests"))
      if (test.at("id") == id) return test;
    return nullptr;
  }
};

inline std::string fixture(const std::string& name) { return std::string(FIXTURES) + "/" + name + ".so"; }

inline ValidatorRun validate(const std::string& arguments) {
  const std::string command = std::string(VALIDATOR) + " " + arguments + " 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (!pipe) throw std::runtime_error("cannot run " + command);
  ValidatorRun run{0, ""};
  std::array<char, 4096> buffer;
  for (size_t n; (n = ::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) run.output.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return run;
}

}  // namespace roundhouse
