// SPDX-License-Identifier: Apache-2.0
#include "host/checkpoint/output.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/checkpoint/file_limit.h"
#include "tests/checkpoint/support.h"

namespace roundhouse {
namespace {

using Names = std::set<std::string>;

void write_output(const fs::path& path, bool overwrite, const std::string& text) {
  OutputFolder output(path, overwrite);
  output.write_text("config.json", text);
  output.finish();
}

TEST(OutputFolder, AppearsOnFinish) {
  TempFolder folder;
  {
    OutputFolder output(folder / "out", false);
    EXPECT_EQ(output.partial(), folder / "out.partial");
    output.write_text("config.json", "{}");
    write_file(folder / "source", "some text");
    output.copy(folder / "source", "sub/copy.txt");
    write_file(folder / "source", "");
    output.copy(folder / "source", "empty.txt");
    OutputFolder::File file = output.create("stream.bin");
    file.write("ab", 2);
    file.write("c", 1);
    EXPECT_EQ(file.size(), 3u);
    EXPECT_FALSE(fs::exists(output.partial() / "stream.bin"));
    file.commit();
    EXPECT_TRUE(fs::exists(output.partial() / "stream.bin"));
    output.write_text("config.json", "{1}");  // replaces
    EXPECT_FALSE(fs::exists(folder / "out"));
    output.finish();
  }
  EXPECT_EQ(list(folder.path()), (Names{"out", "source"}));
  EXPECT_EQ(list(folder / "out"), (Names{".roundhouse", "config.json", "empty.txt", "stream.bin", "sub"}));
  EXPECT_EQ(read_file(folder / "out/config.json"), "{1}");
  EXPECT_EQ(read_file(folder / "out/stream.bin"), "abc");
  EXPECT_EQ(read_file(folder / "out/sub/copy.txt"), "some text");
  EXPECT_EQ(read_file(folder / "out/empty.txt"), "");
}

TEST(OutputFolder, WithoutFinishNothingStays) {
  TempFolder folder;
  {
    OutputFolder output(folder / "made/for/it/out", false);
    output.write_text("config.json", "{}");
    EXPECT_TRUE(fs::exists(folder / "made/for/it/out.partial/config.json"));
  }
  EXPECT_EQ(list(folder.path()), Names{});
}

TEST(OutputFolder, AFileWithoutCommitGoesAway) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  {
    OutputFolder::File file = output.create("a");
    file.write("a", 1);
    OutputFolder::File moved = std::move(file);
    moved.write("b", 1);
  }
  EXPECT_EQ(list(output.partial()), Names{".roundhouse"});
}

TEST(OutputFolder, WhatIsKeptIsTakenUp) {
  TempFolder folder;
  uint64_t length = 0;
  {
    OutputFolder output(folder / "out", false, Partial::kKeep);
    output.write_text("config.json", "{}");
    OutputFolder::File file = output.create("sub/stream.bin");
    file.write("ab", 2);
    file.write_at(4, "e", 1);
    length = file.sync();
    file.write("lost", 4);
    OutputFolder::File other = output.create("abandoned");
  }
  EXPECT_EQ(length, 5u);
  EXPECT_EQ(list(folder.path()), Names{"out.partial"});
  {
    OutputFolder output(folder / "out", false, Partial::kTakeUp);
    EXPECT_EQ(list(output.partial()), (Names{".roundhouse", "abandoned.tmp", "config.json", "sub"}));
    OutputFolder::File file = output.reopen("sub/stream.bin", length);
    file.write("f", 1);
    file.write_at(2, "cd", 2);
    file.commit();
    output.reopen("sub/stream.bin", 4).commit();  // although it was committed
    output.finish();
  }
  EXPECT_EQ(list(folder.path()), Names{"out"});
  EXPECT_EQ(list(folder / "out"), (Names{".roundhouse", "config.json", "sub"}));
  EXPECT_EQ(read_file(folder / "out/sub/stream.bin"), "abcd");
}

TEST(OutputFolder, TakesUpOnlyWhatIsThere) {
  TempFolder folder;
  EXPECT_TRUE(
      contains(error_of([&] { OutputFolder(folder / "out", false, Partial::kTakeUp); }), "nothing to go on with"));
  EXPECT_EQ(list(folder.path()), Names{});
  { OutputFolder(folder / "out", false, Partial::kKeep).write_text("a", "1234"); }
  {
    OutputFolder output(folder / "out", false, Partial::kTakeUp);
    EXPECT_TRUE(contains(error_of([&] { output.reopen("b", 0); }), "cannot go on with"));
    EXPECT_TRUE(contains(error_of([&] { output.reopen("a", 5); }), "has 4 bytes, and 5 were written"));
  }
  OutputFolder fresh(folder / "out", false, Partial::kKeep);
  EXPECT_EQ(list(fresh.partial()), Names{".roundhouse"});
}

TEST(OutputFolder, TrailingSlashAndLinksNameTheSameFolder) {
  TempFolder folder;
  fs::create_directory(folder / "disk");
  fs::create_directory_symlink(folder / "disk", folder / "link");
  OutputFolder output(folder.path().string() + "/link/../link/out/", false);
  EXPECT_EQ(output.path(), folder / "disk/out");
}

TEST(OutputFolder, AnOldOutputIsReplacedOnlyWhenAsked) {
  TempFolder folder;
  write_output(folder / "out", false, "old");
  const std::string message = error_of([&] { write_output(folder / "out", false, "new"); });
  EXPECT_TRUE(contains(message, "exists already"));
  EXPECT_TRUE(contains(message, "--overwrite"));
  EXPECT_EQ(read_file(folder / "out/config.json"), "old");
  {
    OutputFolder output(folder / "out", true);
    output.write_text("config.json", "lost");
    EXPECT_EQ(read_file(folder / "out/config.json"), "old");  // until finish()
  }
  EXPECT_EQ(read_file(folder / "out/config.json"), "old");
  write_output(folder / "out", true, "new");
  EXPECT_EQ(read_file(folder / "out/config.json"), "new");
  EXPECT_EQ(list(folder.path()), Names{"out"});
}

TEST(OutputFolder, ANewOrEmptyFolderNeedsNoOverwrite) {
  TempFolder folder;
  fs::create_directory(folder / "out");
  write_output(folder / "out", false, "new");
  EXPECT_EQ(read_file(folder / "out/config.json"), "new");
}

TEST(OutputFolder, TheUsersOwnFolderIsNeverOverwritten) {
  TempFolder folder;
  fs::create_directory(folder / "model");
  write_file(folder / "model/model.safetensors", "precious");
  EXPECT_TRUE(contains(error_of([&] { OutputFolder(folder / "model", true); }), "was not written by Roundhouse"));
  fs::create_directory(folder / "out.partial");
  write_file(folder / "out.partial/thesis.tex", "precious");
  EXPECT_TRUE(contains(error_of([&] { OutputFolder(folder / "out", true); }), "is in the way"));
  fs::create_directory(folder / "b.replaced");
  write_file(folder / "b.replaced/thesis.tex", "precious");
  EXPECT_TRUE(contains(error_of([&] { OutputFolder(folder / "b", true); }), "is in the way"));
  EXPECT_EQ(list(folder.path()), (Names{"b.replaced", "model", "out.partial"}));
  EXPECT_EQ(read_file(folder / "model/model.safetensors"), "precious");
  EXPECT_EQ(read_file(folder / "out.partial/thesis.tex"), "precious");
  EXPECT_EQ(read_file(folder / "b.replaced/thesis.tex"), "precious");
}

TEST(OutputFolder, APlaceThatCannotBeWrittenIsRefusedAtOnce) {
  TempFolder folder;
  write_file(folder / "file", "");
  EXPECT_TRUE(contains(error_of([&] { OutputFolder(folder / "file", true); }), "is not a folder"));
  EXPECT_TRUE(contains(error_of([&] { OutputFolder(folder / "file/out", false); }), "Not a directory"));
  EXPECT_TRUE(contains(error_of([&] { OutputFolder(folder / "file/a/out", false); }), "Not a directory"));
  EXPECT_TRUE(
      contains(error_of([] { OutputFolder("/proc/out", false); }), "cannot write to the output's folder /proc"));
  EXPECT_TRUE(contains(error_of([] { OutputFolder("", false); }), "is no name for an output folder"));
  EXPECT_TRUE(contains(error_of([] { OutputFolder("/", true); }), "is no name for an output folder"));
  EXPECT_TRUE(contains(error_of([] { OutputFolder("/proc", true); }), "is a mount point"));
  EXPECT_EQ(list(folder.path()), Names{"file"});
}

TEST(OutputFolder, NamesStayInside) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  const std::vector<std::string> names{"",       ".",    "..",          "../x",  "a/../../x",
                                       "/etc/x", "sub/", ".roundhouse", "a.tmp", std::string("a\0b", 3)};
  for (const std::string& name : names)
    EXPECT_TRUE(contains(error_of([&] { output.write_text(name, "x"); }), "cannot be called")) << name;
  EXPECT_EQ(list(folder.path()), Names{"out.partial"});
  EXPECT_EQ(list(output.partial()), Names{".roundhouse"});
}

TEST(OutputFolder, TwoRunsDoNotMix) {
  TempFolder folder;
  OutputFolder first(folder / "out", false);
  first.write_text("config.json", "first");
  EXPECT_TRUE(contains(error_of([&] { OutputFolder(folder / "out", true); }), "another run is writing to"));
  first.finish();
  EXPECT_EQ(read_file(folder / "out/config.json"), "first");
}

// Runs `action` in a child that ends without any destructor, like a killed run.
template <typename Action>
void run_and_kill(Action action) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    action();
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
}

TEST(OutputFolder, WhatAKilledRunLeftIsRemoved) {
  TempFolder folder;
  run_and_kill([&] {
    OutputFolder output(folder / "out", false);
    output.write_text("sub/old.txt", "old");
    OutputFolder::File file = output.create("old.bin");
    file.write("x", 1);
    ::_exit(0);
  });
  EXPECT_EQ(list(folder / "out.partial"), (Names{".roundhouse", "old.bin.tmp", "sub"}));
  write_output(folder / "out", false, "new");
  EXPECT_EQ(list(folder.path()), Names{"out"});
  EXPECT_EQ(list(folder / "out"), (Names{".roundhouse", "config.json"}));
}

TEST(OutputFolder, ARunKilledWhileReplacingLosesNothing) {
  TempFolder folder;
  write_output(folder / "out", false, "old");
  fs::rename(folder / "out", folder / "out.replaced");  // killed between the two renames of finish()
  EXPECT_TRUE(contains(error_of([&] { OutputFolder(folder / "out", false); }), "exists already"));
  EXPECT_EQ(read_file(folder / "out/config.json"), "old");
  EXPECT_EQ(list(folder.path()), Names{"out"});

  fs::copy(folder / "out", folder / "out.replaced");  // killed before the replaced folder was removed
  write_output(folder / "out", true, "new");
  EXPECT_EQ(read_file(folder / "out/config.json"), "new");
  EXPECT_EQ(list(folder.path()), Names{"out"});
}

TEST(OutputFolder, FinishedWorkIsKeptWhenItsNameIsTaken) {
  TempFolder folder;
  {
    OutputFolder output(folder / "out", true);
    output.write_text("config.json", "new");
    fs::create_directory(folder / "out");
    write_file(folder / "out/thesis.tex", "precious");
    const std::string message = error_of([&] { output.finish(); });
    EXPECT_TRUE(contains(message, "it stays in " + (folder / "out.partial").string()));
    EXPECT_TRUE(contains(message, "was not written by Roundhouse"));
  }
  EXPECT_EQ(read_file(folder / "out/thesis.tex"), "precious");
  EXPECT_EQ(read_file(folder / "out.partial/config.json"), "new");
}

TEST(OutputFolder, AFullDiskIsReportedWithNumbers) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  write_file(folder / "source", std::string(5000, 's'));
  FileLimit full(1000);
  for (const std::string& message : {error_of([&] { output.write_text("a.txt", std::string(3000, 'a')); }),
                                     error_of([&] { output.copy(folder / "source", "b.txt"); })}) {
    EXPECT_TRUE(contains(message, "File too large"));
    EXPECT_TRUE(contains(message, "1000 bytes were written"));
    EXPECT_TRUE(contains(message, "are free on that disk"));
  }
  EXPECT_TRUE(
      contains(error_of([&] { output.write_text("a.txt", std::string(3000, 'a')); }), "2000 more were to follow"));
  EXPECT_EQ(list(output.partial()), Names{".roundhouse"});
}

TEST(OutputFolder, CopyNamesWhatItCannotRead) {
  TempFolder folder;
  OutputFolder output(folder / "out", false);
  EXPECT_TRUE(contains(error_of([&] { output.copy(folder / "gone", "a"); }), "gone: No such file"));
  EXPECT_TRUE(contains(error_of([&] { output.copy(folder.path(), "a"); }), "is not a regular file"));
  EXPECT_EQ(list(output.partial()), Names{".roundhouse"});
}

TEST(AppendFile, ASourceThatEndsEarlyIsNamed) {
  TempFolder folder;
  AppendFile source(folder / "source"), target(folder / "target");
  source.write("abc", 3);
  target.append(source.fd(), source.path(), 1, 2);
  EXPECT_EQ(read_file(folder / "target"), "bc");
  EXPECT_TRUE(contains(error_of([&] { target.append(source.fd(), source.path(), 2, 5); }),
                       "source: it ends 4 bytes too early"));
}

// The kernel does not copy between a file in memory and one on a disk: read() and write() do.
TEST(AppendFile, CopiesBetweenFileSystems) {
  TempFolder folder;
  std::string text;
  for (int i = 0; i < 400'000; ++i) text += std::to_string(i);
  const int source = ::memfd_create("source", MFD_CLOEXEC);
  ASSERT_EQ(::write(source, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  AppendFile target(folder / "target");
  target.append(source, "source", 7, text.size() - 7);
  ::close(source);
  EXPECT_EQ(target.size(), text.size() - 7);
  EXPECT_TRUE(read_file(folder / "target") == text.substr(7));
}

TEST(AppendFile, AFullDiskIsNamed) {
  AppendFile full("/dev/full");
  EXPECT_TRUE(contains(error_of([&] { full.write("abc", 3); }),
                       "cannot write /dev/full: No space left on device. 0 bytes were written, 3 more were to follow"));
}

TEST(FreeBytes, AsksTheDiskOfAPathThatIsNotThereYet) {
  TempFolder folder;
  EXPECT_GT(free_bytes(folder / "not/there/yet"), 0u);
  EXPECT_EQ(free_bytes("/proc"), 0u);
}

}  // namespace
}  // namespace roundhouse
