// SPDX-License-Identifier: Apache-2.0
// Hugging Face model folders: where they are, and whether what they hold is quantized already.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace roundhouse {

// The place of a model that a user names:
//   - a folder or file; a leading ~ is the user's home
//   - a repository's folder in the hub's cache ("models--org--name"), or a folder with just one: the snapshot that its
//     refs/main names
//   - an id on the Hugging Face Hub, org/name or org/name@revision: its snapshot in the hub's cache, which is
//     $HF_HUB_CACHE, $HF_HOME/hub, or huggingface/hub in the user's XDG cache folder
// `path`: where `said` leads as a path, when that is not from the current folder. Throws Error when there is nothing,
// with the command that fetches it, and when something in the folder is neither a file nor a folder.
std::filesystem::path find_model(const std::string& said, const std::filesystem::path& path);
std::filesystem::path find_model(const std::string& said);

// The hub's cache, whether it is there or not; empty without a home folder.
std::filesystem::path hub_cache();

// " Fetch it: hf download org/name" for a snapshot in the hub's cache, of which a part may be missing; else "".
std::string fetch_hint(const std::filesystem::path& folder);

// Throws Error for a link that leads nowhere, as in a cache whose blobs were deleted.
void require_linked(const std::filesystem::path& file);
// Throws Error, with the way out, unless there is a config.json in the folder.
void require_config(const std::filesystem::path& folder);

// How the weights of a folder are quantized by its own account, config.json's quantization_config or
// hf_quant_config.json: "gptq", "bitsandbytes", "modelopt FP8"... A folder that was dequantized by hand may still say so.
// Throws Error for a file that cannot be read.
std::optional<std::string> quantization_method(const std::filesystem::path& folder);

}  // namespace roundhouse
