#include "sdk/validator/test.h"
namespace roundhouse::validator { void add_format_read_tests(std::vector<Test>&) {} }
