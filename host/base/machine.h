// SPDX-License-Identifier: Apache-2.0
// What Linux says of the machine.
#pragma once

#include <cstdint>
#include <string>

namespace roundhouse {

// What follows the first `key` of a file of lines such as "key : value"; "" where there is none.
std::string value_in(const char* file, const std::string& key);
// Bytes that this machine has to give, as the kernel estimates it.
uint64_t available_memory();

}  // namespace roundhouse
