// A checkpoint read by a format and written by one, layer by layer as the reader gives them.
#pragma once

#include "tests/formats/format_fixture.h"

namespace roundhouse::formats {

// Reads `source` and writes it to `folder`, which must not exist. The empty string, or what a plugin said against it.
std::string recode(const FormatPlugin& reader, const std::filesystem::path& source, const FormatPlugin& writer,
                   const std::filesystem::path& folder);

}  // namespace roundhouse::formats
