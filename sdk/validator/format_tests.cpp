#include "sdk/validator/test.h"
namespace roundhouse::validator { void add_format_tests(std::vector<Test>&) {} }
