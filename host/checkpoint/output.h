// An output folder that appears whole or not at all.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/crash.h"
#include "host/checkpoint/append_file.h"

namespace roundhouse {

inline constexpr const char* kOutputMarker = ".roundhouse";

// Files are written into "<path>.partial"; finish() renames it to `path`. Without finish() the destructor removes it,
// and what a killed or crashed run left there is removed by the next one. Not thread-safe.
//
// An empty file kOutputMarker marks the folders that this class made, and only such folders, or empty ones, are ever
// removed: overwriting can not delete the user's own model. A lock on "<path>.partial" keeps two runs apart.
class OutputFolder {
 public:
  // A file under a temporary name until commit(); the destructor without commit() removes it.
  class File : public AppendFile {
   public:
    File(File&&) noexcept = default;
    ~File();
    // Forces the data to the disk and gives the file its name, in place of an older file. Throws Error.
    void commit();

   private:
    friend class OutputFolder;
    explicit File(std::filesystem::path target);
    std::filesystem::path target_;
    std::shared_ptr<const void> open_;  // the folder's files_, until commit()
  };

  // Creates the partial folder and the folders above it, so that an output that cannot be written is found before the
  // long work. Throws Error when that fails, when another run writes to `path`, or when `path` is there and not empty:
  // without `overwrite`, or when this class did not make it.
  OutputFolder(std::filesystem::path path, bool overwrite);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& partial() const { return partial_; }

  // `name` is relative to the folder and stays inside it; folders in it are made. All throw Error.
  File create(const std::string& name);
  void copy(const std::filesystem::path& from, const std::string& name);
  void write_text(const std::string& name, std::string_view text);
  void rename(const std::string& from, const std::string& to);

  // REQUIRES: every File is committed or destroyed.
  // An old folder at `path` is moved to "<path>.replaced" first and removed at the end. When the new one cannot get its
  // name, the old one is moved back, the partial folder stays, and the Error names it.
  void finish();

 private:
  std::filesystem::path inside(const std::string& name) const;
  void make_parents();
  void claim_partial();
  void recover_replaced();
  void check_target() const;
  void discard();

  std::filesystem::path path_, partial_, replaced_;
  bool overwrite_;
  std::vector<std::filesystem::path> made_parents_;               // outermost first
  std::shared_ptr<const void> files_ = std::make_shared<char>();  // shared with every open File
  int lock_ = -1;                                                 // descriptor of the partial folder; open: it is ours
  bool kept_ = false;                                             // finish() has been there: nothing to remove
  CrashNote note_;
};

}  // namespace roundhouse
