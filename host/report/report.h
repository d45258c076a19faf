// What a run did, as JSON and as a page.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace roundhouse {

// The page shows the report's JSON, which has:
//   model, recipe (YAML text), device, seconds {calibration, quantize, evaluate, total}, peak_memory_bytes,
//   spill    {bytes, read, written, seconds}: of calibration activations, on disk
//   models   [{name, format or null, folder or null, bytes, perplexity or null, tokens}]
//   blocks   [{block, first_loss, best_loss, best_iteration, seconds}]
//   layers   [{name, scheme: text}]
// Plots are inline SVG; the page needs nothing else.
std::string report_page(const nlohmann::json& report);

// The largest resident memory of this process so far, in bytes.
uint64_t peak_memory_bytes();

}  // namespace roundhouse
