// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/output.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "host/base/error.h"
#include "host/base/log.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemporary = ".tmp";  // what the name of a file that is not committed ends in

fs::path with_suffix(fs::path path, const char* suffix) { return path += suffix; }

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(fs::symlink_status(path, ignored));
}

bool is_empty_folder(const fs::path& folder) {
  std::error_code code;
  const bool empty = fs::is_empty(folder, code);
  if (code) throw Error(cat("cannot look into ", folder.string(), ": ", code.message()), failure_of(code.value()));
  return empty;
}

// Whether this class may remove it.
bool is_ours(const fs::path& path) {
  return is_folder(path) && (is_empty_folder(path) || is_there(path / kOutputMarker));
}

// Symbolic links are resolved, so that the partial folder lies on the same disk as the output.
fs::path resolve(const fs::path& path) {
  std::error_code code;
  fs::path full = fs::weakly_canonical(fs::absolute(path, code), code);
  if (code) throw Error(cat("cannot use the output folder ", path.string(), ": ", code.message()));
  if (!full.has_filename()) full = full.parent_path();
  if (path.empty() || !full.has_filename()) throw Error(cat("\"", path.string(), "\" is no name for an output folder"));
  return full;
}

}  // namespace

OutputFolder::File::File(AppendFile file, fs::path target, bool keep, std::shared_ptr<const void> open)
    : AppendFile(std::move(file)), target_(std::move(target)), keep_(keep), open_(std::move(open)) {}

OutputFolder::File::~File() {
  if (is_open() && !keep_) ::unlink(path().c_str());
}

uint64_t OutputFolder::File::sync() {
  const uint64_t length = AppendFile::sync();
  sync_folder(path().parent_path());
  return length;
}

void OutputFolder::File::commit() {
  open_.reset();
  try {
    sync_and_close();
    if (::rename(path().c_str(), target_.c_str()) != 0)
      throw Error(cat("cannot rename ", path().string(), " to ", target_.string(), ": ", std::strerror(errno)),
                  failure_of(errno));
    if (keep_) sync_folder(target_.parent_path());
  } catch (...) {
    if (!keep_) ::unlink(path().c_str());
    throw;
  }
}

OutputFolder::OutputFolder(fs::path path, bool overwrite, Partial unfinished)
    : path_(resolve(path)),
      partial_(with_suffix(path_, ".partial")),
      replaced_(with_suffix(path_, ".replaced")),
      overwrite_(overwrite),
      unfinished_(unfinished) {
  try {
    make_parents();
    claim_partial();
    recover_replaced();
    check_target(path_, overwrite_);
  } catch (...) {
    if (unfinished_ == Partial::kKeep) unfinished_ = Partial::kRemove;  // there is nothing yet
    discard();
    throw;
  }
  note_.set(cat("Not finished: ", path_.string(), ". The files that were complete are kept in ", partial_.string(),
                " until the next run that writes there."));
}

OutputFolder::OutputFolder(OutputFolder& whole, const std::string& name)
    : path_(whole.path_ / name),
      partial_(whole.inside(name)),
      overwrite_(whole.overwrite_),
      unfinished_(whole.unfinished_),
      finished_(true) {
  if (::mkdir(partial_.c_str(), 0777) != 0 && errno != EEXIST)
    throw Error(cat("cannot create the folder ", partial_.string(), ": ", std::strerror(errno)), failure_of(errno));
  if (!is_there(partial_ / kOutputMarker)) AppendFile marker(partial_ / kOutputMarker);
}

fs::path OutputFolder::partial_of(const fs::path& path) { return with_suffix(resolve(path), ".partial"); }

OutputFolder::~OutputFolder() { discard(); }

void OutputFolder::discard() {
  std::error_code ignored;
  const bool keep = unfinished_ != Partial::kRemove && lock_ >= 0;
  if (!finished_ && !keep) {
    if (lock_ >= 0) fs::remove_all(partial_, ignored);
    std::for_each(made_parents_.rbegin(), made_parents_.rend(), [](const fs::path& p) { ::rmdir(p.c_str()); });
  }
  if (lock_ >= 0) ::close(lock_);
  lock_ = -1;
}

void OutputFolder::make_parents() {
  std::vector<fs::path> missing;
  for (fs::path p = path_.parent_path(); !is_there(p) && p.has_relative_path(); p = p.parent_path())
    missing.push_back(p);
  for (auto p = missing.rbegin(); p != missing.rend(); ++p) {
    if (::mkdir(p->c_str(), 0777) == 0) {
      made_parents_.push_back(*p);
    } else if (errno != EEXIST) {
      throw Error(cat("cannot create the folder ", p->string(), " for the output: ", std::strerror(errno)));
    }
  }
}

void OutputFolder::claim_partial() {
  if (unfinished_ == Partial::kTakeUp && !is_there(partial_ / kOutputMarker))
    throw Error(cat("there is nothing to go on with: ", partial_.string(), " is not there"), Failure::kNotFound);
  if (::mkdir(partial_.c_str(), 0777) != 0 && errno != EEXIST)
    throw Error(cat("cannot write to the output's folder ", path_.parent_path().string(), ": ", std::strerror(errno)));
  const bool ours = is_ours(partial_);
  const int fd = ::open(partial_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) throw Error(cat("cannot open ", partial_.string(), ": ", std::strerror(errno), ". Remove it."));
  // A file system without locks lets us pass. The folder may have been finished or removed by its owner between our
  // open and our lock; then the name no longer leads to what we locked.
  struct stat locked = {}, named = {};
  const bool busy = ::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  const bool gone = ::fstat(fd, &locked) != 0 || ::lstat(partial_.c_str(), &named) != 0 ||
                    locked.st_dev != named.st_dev || locked.st_ino != named.st_ino;
  if (busy || gone || !ours) {
    ::close(fd);
    if (busy || gone) throw Error(cat("another run is writing to ", path_.string(), " now"));
    throw Error(cat(partial_.string(), " is in the way: it was not made by an earlier run (it has no ", kOutputMarker,
                    " file). Move it, or choose another output."));
  }
  lock_ = fd;
  if (unfinished_ == Partial::kTakeUp) return;
  clear();
  AppendFile marker(partial_ / kOutputMarker);
  if (unfinished_ == Partial::kRemove) return;
  sync_folder(partial_);
  for (const fs::path& made : made_parents_) sync_folder(made.parent_path());
  sync_folder(path_.parent_path());
}

void OutputFolder::clear() {
  try {
    for (const auto& entry : fs::directory_iterator(partial_))
      if (entry.path().filename() != kOutputMarker) fs::remove_all(entry.path());
  } catch (const fs::filesystem_error& e) {
    throw Error(cat("cannot clear what an earlier run left: ", e.what()));
  }
}

void OutputFolder::remove_leftovers(const fs::path& path) {
  const fs::path whole = resolve(path), replaced = with_suffix(whole, ".replaced");
  const auto remove = [](const fs::path& left) {
    std::error_code code;
    fs::remove_all(left, code);
    if (code) log::warning(cat("cannot remove ", left.string(), ", which is not needed any more: ", code.message()));
  };
  remove(whole / kJournalFolder);
  if (is_ours(replaced)) remove(replaced);
}

void OutputFolder::say_at_crash(const std::string& kept) {
  note_.set(cat("Not finished: ", path_.string(), ". ", kept));
}

// An earlier run may have died between the two renames of finish(), or before it had removed what it replaced.
void OutputFolder::recover_replaced() {
  if (!is_there(replaced_)) return;
  std::error_code code;
  if (!is_ours(replaced_)) {
    throw Error(cat(replaced_.string(), " is in the way. Move it, or choose another output."));
  } else if (is_there(path_)) {
    fs::remove_all(replaced_, code);
  } else {
    fs::rename(replaced_, path_, code);
  }
  if (code) throw Error(cat("cannot clean up ", replaced_.string(), " of an earlier run: ", code.message()));
}

void OutputFolder::check_target(const fs::path& given, bool overwrite) {
  const fs::path path = resolve(given);
  if (!is_there(path)) return;
  if (!is_folder(path))
    throw Error(cat("the output ", path.string(), " exists and is not a folder. Choose another output."));
  struct stat own = {}, parent = {};
  if (::stat(path.c_str(), &own) == 0 && ::stat(path.parent_path().c_str(), &parent) == 0 &&
      own.st_dev != parent.st_dev)
    throw Error(
        cat("the output ", path.string(), " is a mount point, which cannot be replaced. Choose a folder in it."));
  if (is_empty_folder(path)) return;
  if (!overwrite)
    throw Error(cat("the output folder ", path.string(), " exists already. Choose another one, or pass --overwrite."));
  if (!is_ours(path))
    throw Error(cat("the output folder ", path.string(), " was not written by Roundhouse (it has no ", kOutputMarker,
                    " file), so it is not overwritten. Choose another one, or remove it yourself."));
}

fs::path OutputFolder::inside(const std::string& name) const {
  const fs::path relative = fs::path(name).lexically_normal();
  if (!relative.has_filename() || relative.is_absolute() || *relative.begin() == ".." || relative == "." ||
      relative == kOutputMarker || relative.extension() == kTemporary || name.find('\0') != std::string::npos)
    throw Error(cat("a file in the output folder ", path_.string(), " cannot be called \"", name, "\""));
  return partial_ / relative;
}

OutputFolder::File OutputFolder::create(const std::string& name) {
  fs::path target = inside(name);
  std::error_code code;
  fs::create_directories(target.parent_path(), code);
  if (code)
    throw Error(cat("cannot create the folder ", target.parent_path().string(), ": ", code.message()),
                failure_of(code.value()));
  if (unfinished_ != Partial::kRemove)
    for (fs::path p = target.parent_path(); p != partial_; p = p.parent_path()) sync_folder(p.parent_path());
  return {AppendFile(with_suffix(target, kTemporary)), std::move(target), unfinished_ != Partial::kRemove, files_};
}

OutputFolder::File OutputFolder::reopen(const std::string& name, uint64_t length) {
  fs::path target = inside(name);
  const fs::path temporary = with_suffix(target, kTemporary);
  if (!is_there(temporary) && ::rename(target.c_str(), temporary.c_str()) != 0)
    throw Error(cat("cannot go on with ", target.string(), ": ", std::strerror(errno)), failure_of(errno));
  return {AppendFile(temporary, length), std::move(target), unfinished_ != Partial::kRemove, files_};
}

void OutputFolder::copy(const fs::path& from, const std::string& name) {
  File file = create(name);
  const int source = ::open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (source < 0) throw Error(cat("cannot open ", from.string(), ": ", std::strerror(errno)), failure_of(errno));
  try {
    struct stat info = {};
    if (::fstat(source, &info) != 0 || !S_ISREG(info.st_mode))
      throw Error(cat(from.string(), " is not a regular file"));
    file.append(source, from, 0, static_cast<uint64_t>(info.st_size));
  } catch (...) {
    ::close(source);
    throw;
  }
  ::close(source);
  file.commit();
}

void OutputFolder::write_text(const std::string& name, std::string_view text) {
  File file = create(name);
  file.write(text.data(), text.size());
  file.commit();
}

void OutputFolder::finish() {
  assert(files_.use_count() == 1);
  std::error_code code;
  std::vector<fs::path> folders, abandoned;  // abandoned: files that were not committed
  for (fs::recursive_directory_iterator it(partial_, code), end; !code && it != end; it.increment(code)) {
    if (is_folder(it->path())) folders.push_back(it->path());
    if (it->path().extension() == kTemporary) abandoned.push_back(it->path());
  }
  for (const fs::path& file : abandoned) ::unlink(file.c_str());
  for (const fs::path& folder : folders) sync_folder(folder);
  if (code) throw Error(cat("cannot list ", partial_.string(), ": ", code.message()));
  sync_folder(partial_);

  finished_ = true;  // from here on the work is done, and is kept even when it cannot get its name
  const auto fail = [&](const std::string& why) {
    throw Error(cat("the output is complete, but it stays in ", partial_.string(), ": ", why, ". Move it yourself."));
  };
  try {
    check_target(path_, overwrite_);
  } catch (const Error& e) {
    fail(e.what());
  }
  const bool replace = is_there(path_) && !is_empty_folder(path_);
  if (replace && ::rename(path_.c_str(), replaced_.c_str()) != 0)
    fail(cat("the old ", path_.string(), " cannot be moved away: ", std::strerror(errno)));
  if (::rename(partial_.c_str(), path_.c_str()) != 0) {
    const std::string why = std::strerror(errno);
    if (replace) ::rename(replaced_.c_str(), path_.c_str());
    fail(cat("it cannot be renamed to ", path_.string(), ": ", why));
  }
  sync_folder(path_.parent_path());
  note_.set(cat("Complete: ", path_.string()));
  remove_leftovers(path_);
}

}  // namespace roundhouse
