// SPDX-License-Identifier: Apache-2.0
#include "host/export/digests.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>

#include "host/base/error.h"
#include "host/base/files.h"
#include "host/base/parallel.h"
#include "host/base/sha256.h"
#include "host/base/words.h"
#include "host/checkpoint/mapped_file.h"
#include "host/checkpoint/output.h"
#include "host/checkpoint/safetensors_header.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTensorLine = "# tensor\t";
constexpr const char* kFirstLine = " tensors; the lines below: ";  // part of ours
constexpr size_t kNamed = 10;  // tensors of a file that are named before the others are counted

constexpr const char* kTemporary = ".tmp";  // what the name of a file ends in that is not complete

// The files that have digests, and links, of which an export has none, by their paths in the folder.
std::set<std::string> files_of(const fs::path& folder) {
  std::set<std::string> files;
  for (auto it = fs::recursive_directory_iterator(folder); it != fs::recursive_directory_iterator(); ++it) {
    const std::string name = it->path().lexically_relative(folder).string();
    if (it->is_directory() && (name == kNotesFolder || name == kJournalFolder))
      it.disable_recursion_pending();
    else if ((it->is_regular_file() || it->is_symlink()) && name != kDigestFile && name != kOutputMarker)
      files.insert(name);
  }
  return files;
}

// sha256sum's way with names that would break a line: a backslash first, and escapes.
std::string file_line(const std::string& digest, const std::string& name) {
  if (name.find_first_of("\\\n") == std::string::npos) return cat(digest, "  ", name, "\n");
  std::string escaped;
  for (const char c : name) escaped += c == '\\' ? "\\\\" : c == '\n' ? "\\n" : std::string(1, c);
  return cat("\\", digest, "  ", escaped, "\n");
}

std::string unescaped(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i)
    out += name[i] != '\\' || i + 1 == name.size() ? name[i] : name[++i] == 'n' ? '\n' : name[i];
  return out;
}

}  // namespace

Digests Digests::of(const fs::path& folder, const std::vector<StoredRange>& others) {
  Digests out;
  std::set<std::string> names = files_of(folder);
  std::erase_if(names, [](const fs::path& name) { return name.extension() == kTemporary; });
  std::vector<StoredRange> ranges;
  for (const std::string& name : names)
    if (fs::path(name).extension() == ".safetensors")
      for (const SafetensorsHeader::Tensor& tensor : parse_safetensors_header(MappedFile(folder / name)).tensors)
        ranges.push_back({tensor.name, name, tensor.begin, tensor.end - tensor.begin});
  for (const StoredRange& range : others)
    if (names.contains(range.file) && fs::path(range.file).extension() != ".safetensors") ranges.push_back(range);
  std::erase_if(ranges,
                [](const StoredRange& r) { return (r.name + r.file).find_first_of("\t\n") != std::string::npos; });

  const std::vector<std::string> files(names.begin(), names.end());
  std::vector<std::string> digests(files.size() + ranges.size());
  parallel_for(static_cast<int64_t>(digests.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      if (i < files.size()) {
        digests[i] = sha256_of_file(folder / files[i]);
      } else {
        const StoredRange& range = ranges[i - files.size()];
        digests[i] = sha256_of_file(folder / range.file, range.offset, range.bytes);
      }
    }
  });
  for (size_t i = 0; i < files.size(); ++i) out.files_[files[i]] = digests[i];
  for (size_t i = 0; i < ranges.size(); ++i) out.tensors_.push_back({ranges[i], digests[files.size() + i]});
  return out;
}

std::optional<Digests> Digests::read(const fs::path& folder) {
  const fs::path file = folder / kDigestFile;
  if (!fs::exists(file)) return std::nullopt;
  Digests out;
  const std::string all = read_file(file);
  // Somebody else's; a damaged first line of ours stands above our lines.
  const bool ours = std::string_view(all).substr(0, all.find('\n')).find(kFirstLine) != std::string_view::npos ||
                    all.find(cat("\n", kTensorLine)) != std::string::npos;
  if (!all.empty() && !ours) return std::nullopt;
  std::istringstream lines(all);
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    const auto fail = [&] { throw Error(cat(file.string(), ":", number, ": this is no line of digests")); };
    if (line.rfind(kTensorLine, 0) == 0) {
      std::istringstream fields(line.substr(std::char_traits<char>::length(kTensorLine)));
      TensorDigest tensor;
      if (!(fields >> tensor.digest >> tensor.range.offset >> tensor.range.bytes) || fields.get() != '\t' ||
          !std::getline(fields, tensor.range.file, '\t') || !std::getline(fields, tensor.range.name))
        fail();
      out.tensors_.push_back(std::move(tensor));
    } else if (!line.empty() && line[0] != '#') {
      const bool escaped = line[0] == '\\';
      const size_t blank = line.find(' ');
      if (blank == std::string::npos || blank + 2 >= line.size()) fail();
      const std::string name = line.substr(blank + 2);
      out.files_[escaped ? unescaped(name) : name] = line.substr(escaped, blank - escaped);
    }
  }
  const size_t first = std::min(all.find('\n') + 1, all.size());
  if (all.compare(0, first, out.first_line(all.substr(first))) != 0)
    throw Error(cat(file.string(), " does not have the lines that its first line says: it was cut, damaged or edited"));
  return out;
}

// By which one changed bit of the others is known.
std::string Digests::first_line(std::string_view others) const {
  return cat("# ", files_.size(), " files, ", tensors_.size(), kFirstLine, sha256(others),
             ". Check the files: sha256sum -c SHA256SUMS. Files and tensors: roundhouse verify.\n");
}

std::string Digests::text() const {
  std::string text;
  for (const auto& [name, digest] : files_) text += file_line(digest, name);
  for (const auto& [range, digest] : tensors_)
    text += cat(kTensorLine, digest, "\t", range.offset, "\t", range.bytes, "\t", range.file, "\t", range.name, "\n");
  return first_line(text) + text;
}

std::vector<std::string> Digests::differences(const fs::path& folder,
                                              const std::function<void(const std::string&)>& progress,
                                              const std::string& prefix) const {
  std::vector<std::string> out;
  for (const auto& [file, digest] : files_) {
    const std::string shown = prefix + file;
    progress(shown);
    if (!fs::exists(folder / file)) {
      out.push_back(cat(shown, " is missing"));
      continue;
    }
    try {
      if (sha256_of_file(folder / file) == digest) continue;
    } catch (const Error& e) {
      if (says_nothing(e)) throw;
      out.push_back(e.what());
      continue;
    }
    std::vector<std::string> changed;
    size_t stored = 0;
    for (const TensorDigest& tensor : tensors_) {
      if (tensor.range.file != file) continue;
      ++stored;
      if (sha256_of_file(folder / file, tensor.range.offset, tensor.range.bytes) != tensor.digest)
        changed.push_back(tensor.range.name);
    }
    std::string text = cat(shown, " is not as it was written (SHA-256)");
    if (stored > 0 && changed.empty()) text += ", outside its tensors";
    if (!changed.empty()) text += cat(": ", joined(changed, kNamed));
    out.push_back(std::move(text));
  }
  return out;
}

std::vector<std::string> Digests::unknown(const fs::path& folder) const {
  std::vector<std::string> out;
  for (const std::string& name : files_of(folder)) {
    const std::string complete = fs::path(name).extension() == kTemporary ? fs::path(name).replace_extension() : "";
    const bool left = complete == kDigestFile || files_.contains(complete);  // by a run that was killed
    if (!files_.contains(name) && !left) out.push_back(name);
  }
  return out;
}

}  // namespace roundhouse
