// SPDX-License-Identifier: Apache-2.0
#include "validator/test.h"

#include <cstring>
#include <exception>

namespace roundhouse::validator {
namespace {

char own_place[kPlaceBytes];
char* current_place = own_place;

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += (out.empty() ? "" : "; ") + line;
  return out;
}

}  // namespace

const std::vector<Test>& all_tests() {
  static const std::vector<Test> tests = [] {
    std::vector<Test> out;
    add_library_tests(out);
    add_descriptor_tests(out);
    add_dtype_call_tests(out);
    add_dtype_number_tests(out);
    add_dtype_encoding_tests(out);
    add_format_tests(out);
    add_format_read_tests(out);
    return out;
  }();
  return tests;
}

void at(const std::string& what) {
  const size_t size = std::min(what.size(), kPlaceBytes - 1);
  std::memcpy(current_place, what.data(), size);
  current_place[size] = 0;
}

void set_place(char* memory) { current_place = memory; }
const char* place() { return current_place; }

Result run_here(const Test& test, Context& context) {
  try {
    test.run(context);
    if (context.warnings.empty()) return {"passed", "", "", "", 0};
    return {"warning", joined(context.warnings), "", "", 0};
  } catch (const Failure& f) {
    return {"failed", f.where, f.expected, f.actual, 0};
  } catch (const Skip& s) {
    return {"skipped", s.reason, "", "", 0};
  } catch (const std::exception& e) {
    return {"failed", place(), "an answer that the host can use", e.what(), 0};
  }
}

}  // namespace roundhouse::validator
