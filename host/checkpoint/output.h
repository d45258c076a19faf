// SPDX-License-Identifier: Apache-2.0
// An output folder that appears whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/crash.h"
#include "host/checkpoint/append_file.h"

namespace roundhouse {

inline constexpr const char* kOutputMarker = ".roundhouse";
// What a run keeps for a later one, and no part of the output: in the partial folder, and in the notes until the exports are evaluated.
inline constexpr const char* kJournalFolder = ".journal";

// What becomes of "<path>.partial" while it is not finished.
enum class Partial {
  kRemove,  // the destructor removes it, and what an earlier run left there goes first
  kKeep,    // it stays for a later run, with the files that were not committed; what an earlier run left goes first
  kTakeUp,  // as kKeep, and continues what an earlier run left
};

// Files are written into "<path>.partial"; finish() renames it to `path`. Not thread-safe.
//
// An empty file kOutputMarker marks the folders that this class made, and only such folders, or empty ones, are ever
// removed: overwriting can not delete the user's own model. A lock on "<path>.partial" keeps two runs apart.
class OutputFolder {
 public:
  // A file under a temporary name until commit(): its own and ".tmp". The destructor without commit() removes it, unless
  // the folder is kept.
  class File : public AppendFile {
   public:
    File(File&&) noexcept = default;
    ~File();
    // Forces the data to the disk, so that reopen() finds them, and returns the file's length. Throws Error.
    uint64_t sync();
    // Forces the data to the disk and gives the file its name, in place of an older file. Throws Error.
    void commit();

   private:
    friend class OutputFolder;
    File(AppendFile file, std::filesystem::path target, bool keep, std::shared_ptr<const void> open);
    std::filesystem::path target_;
    bool keep_;
    std::shared_ptr<const void> open_;  // the folder's files_, until commit()
  };

  // Creates the partial folder and the folders above it, so that an output that cannot be written is found before the
  // long work. Throws Error when that fails, when another run writes to `path`, or when `path` is there and not empty:
  // without `overwrite`, or when this class did not make it; and when there is nothing to take up.
  OutputFolder(std::filesystem::path path, bool overwrite, Partial unfinished = Partial::kRemove);
  ~OutputFolder();
  // A folder `name` inside `whole`, which must outlive it: it appears when `whole` does, and is never finished itself.
  // Throws Error.
  OutputFolder(OutputFolder& whole, const std::string& name);
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  // Where the output `path` lies while it is not finished. Throws Error.
  // Throws Error unless an output can take the place of what is there.
  static void check_target(const std::filesystem::path& path, bool overwrite);
  static std::filesystem::path partial_of(const std::filesystem::path& path);
  // Removes what is not needed any more when the output `path` has its name; until then a killed run goes on.
  static void remove_leftovers(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& partial() const { return partial_; }

  // An unfinished folder will be removed, whatever it was opened with.
  void remove_unfinished() { unfinished_ = Partial::kRemove; }
  // What is said of an unfinished folder when the program crashes.
  void say_at_crash(const std::string& kept);
  // Removes what an earlier run left, and what this one has written. REQUIRES: no File is open. Throws Error.
  void clear();

  // `name` is relative to the folder, stays inside it, and does not end in ".tmp"; folders in it are made. All throw
  // Error.
  File create(const std::string& name);
  // The file that was created as `name`, by this object or before kTakeUp, and may have been committed; cut to `length`.
  File reopen(const std::string& name, uint64_t length);
  void copy(const std::filesystem::path& from, const std::string& name);
  void write_text(const std::string& name, std::string_view text);

  // REQUIRES: every File is committed or destroyed, and those of the folders inside.
  // The journal goes. An old folder at `path` is moved to "<path>.replaced" first and removed at the end. When the new one cannot get its
  // name, the old one is moved back, the partial folder stays, and the Error names it.
  void finish();

 private:
  std::filesystem::path inside(const std::string& name) const;
  void make_parents();
  void claim_partial();
  void recover_replaced();
  void discard();

  std::filesystem::path path_, partial_, replaced_;
  bool overwrite_;
  Partial unfinished_;
  std::vector<std::filesystem::path> made_parents_;               // outermost first
  std::shared_ptr<const void> files_ = std::make_shared<char>();  // shared with every open File
  int lock_ = -1;                                                 // descriptor of the partial folder; open: it is ours
  bool finished_ = false;                                         // finish() has been there: nothing to remove
  CrashNote note_;
};

}  // namespace roundhouse
