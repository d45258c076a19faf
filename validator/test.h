// SPDX-License-Identifier: Apache-2.0
// A test of the validator: a rule of a header, and the code that looks whether a plugin keeps it.
#pragma once

#include <filesystem>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

namespace roundhouse::validator {

template <typename... Args>
std::string text(const Args&... args) {
  std::ostringstream out;
  out.precision(9);
  (out << ... << args);
  return out.str();
}

// The rule is broken. `expected` and `actual` may be empty.
struct Failure {
  std::string where, expected, actual;
};
// There is nothing to test.
struct Skip {
  std::string reason;
};

[[noreturn]] inline void fail(const std::string& where, const std::string& expected, const std::string& actual) {
  throw Failure{where, expected, actual};
}
inline void expect(bool condition, const std::string& where, const std::string& expected, const std::string& actual) {
  if (!condition) fail(where, expected, actual);
}

struct Context {
  std::filesystem::path file;
  std::filesystem::path scratch;  // an empty folder of this test's own
  std::vector<std::string> warnings;
};

struct Test {
  std::string id;
  std::string rule;
  std::string header;  // that states it
  std::function<void(Context&)> run;
};

// In the order in which they run.
const std::vector<Test>& all_tests();
void add_library_tests(std::vector<Test>& tests);
void add_descriptor_tests(std::vector<Test>& tests);
void add_dtype_call_tests(std::vector<Test>& tests);
void add_dtype_number_tests(std::vector<Test>& tests);
void add_dtype_encoding_tests(std::vector<Test>& tests);
void add_format_tests(std::vector<Test>& tests);
void add_format_read_tests(std::vector<Test>& tests);

// What the plugin is doing now, for the report of a crash or a hang: set before each call into it. Thread-safe in the
// sense that a torn text harms nobody.
void at(const std::string& what);
// Memory that `at` writes to from now on; it must stay.
inline constexpr size_t kPlaceBytes = 1024;
void set_place(char* memory);
const char* place();

struct Result {
  std::string status;  // "passed", "failed", "crashed", "skipped" or "warning"
  std::string where, expected, actual;
  double seconds = 0;
};

// Runs the test in this process.
Result run_here(const Test& test, Context& context);

}  // namespace roundhouse::validator
