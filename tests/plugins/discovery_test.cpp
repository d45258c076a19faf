// SPDX-License-Identifier: Apache-2.0
// Where plugins are found, which one has an id, when they are loaded, and what the cache does.
#include <sys/stat.h>

#include <chrono>
#include <fstream>

#include "host/base/sha256.h"
#include "tests/plugins/sandbox.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

class Discovery : public Sandbox {};

std::vector<std::string> names(const Catalogue& catalogue) {
  std::vector<std::string> names;
  for (const auto& plugin : catalogue.plugins()) names.push_back(plugin.name);
  return names;
}
using Names = std::vector<std::string>;

TEST_F(Discovery, RecordsWhatAPluginDeclares) {
  const Catalogue catalogue = discover_in(install("a", {"good", "format"}));
  ASSERT_EQ(catalogue.plugins().size(), 2u);
  const PluginRecord& format = catalogue.plugins()[0];  // by file name
  const PluginRecord& good = catalogue.plugins()[1];
  EXPECT_EQ(good.status, "ok") << good.reason;
  EXPECT_EQ(good.vendor, "tests");
  EXPECT_EQ(good.version, "1.2.3");
  EXPECT_EQ(good.abi_major, RH_ABI_MAJOR);
  ASSERT_EQ(good.dtypes.size(), 1u);
  EXPECT_EQ(good.dtypes[0].id, "fixture");
  EXPECT_EQ(good.dtypes[0].encoding, "example.com/rounded/1");
  EXPECT_EQ(good.dtypes[0].supports, RH_SUPPORTS_CPU | RH_SUPPORTS_WEIGHTS | RH_SUPPORTS_TUNING | RH_SUPPORTS_ENCODED);
  ASSERT_EQ(good.dtypes[0].aliases.size(), 3u);
  EXPECT_EQ(good.dtypes[0].aliases[0].second, (nlohmann::json{{"bits", 8}, {"sym", false}}));
  ASSERT_EQ(format.formats.size(), 1u);
  EXPECT_EQ(format.formats[0].encodings, Names{"example.com/rounded/1"});
  EXPECT_EQ(format.formats[0].backends[0]["engine"], "tests");
  ASSERT_EQ(format.formats[0].aliases.size(), 1u);
  EXPECT_EQ(format.formats[0].aliases[0].first, "fixture_format:deep");
  EXPECT_EQ(catalogue.find_dtype("fixture")->plugin, root_ / "a/librh_fixture_good.so");
}

TEST_F(Discovery, FilesBeforeFoldersBeforeEnvironmentBeforeDefaults) {
  install("home/.local/share/roundhouse/plugins", {"good"});
  install("lib/roundhouse/plugins", {"older"});
  install("added", {"newer"});
  install("given", {"other"});
  EXPECT_EQ(names(Catalogue::discover(options())), (Names{"fixture", "fixture"}));

  set("ROUNDHOUSE_ADD_PLUGIN_PATH", root_ / "added");
  DiscoveryOptions all = options();
  all.files = {fixture("same_id")};
  all.directories = {root_ / "given"};
  const Catalogue catalogue = Catalogue::discover(all);
  EXPECT_EQ(names(catalogue), (Names{"same id", "other", "fixture", "fixture", "fixture"}));
  EXPECT_EQ(catalogue.plugins()[2].abi_minor, 7);
  EXPECT_EQ(catalogue.find_dtype("fixture")->plugin, fixture("same_id"));
  EXPECT_EQ(catalogue.searched(),
            (std::vector<fs::path>{root_ / "given", root_ / "added", root_ / "home/.local/share/roundhouse/plugins",
                                   root_ / "lib/roundhouse/plugins"}));

  set("XDG_DATA_HOME", root_ / "nowhere");
  EXPECT_EQ(names(Catalogue::discover(options())), (Names{"fixture", "fixture"}));  // added, lib
}

TEST_F(Discovery, PluginPathReplacesTheDefaultsOnly) {
  install("lib/roundhouse/plugins", {"good"});
  set("ROUNDHOUSE_PLUGIN_PATH", (install("b", {"other"}).string() + ":" + install("c", {"format"}).string()));
  EXPECT_EQ(names(Catalogue::discover(options())), (Names{"other", "fixture_format"}));
  set("ROUNDHOUSE_ADD_PLUGIN_PATH", install("d", {"same_id"}));
  EXPECT_EQ(names(Catalogue::discover(options())), (Names{"same id", "other", "fixture_format"}));
}

TEST_F(Discovery, TheFirstOfTwoWithOneIdIsUsedAndBothAreNamed) {
  const fs::path first = install("first", {"good"}), second = install("second", {"same_id"});
  DiscoveryOptions both = options();
  both.directories = {first, second};
  testing::internal::CaptureStderr();
  Catalogue catalogue = Catalogue::discover(both);
  const std::string warning = testing::internal::GetCapturedStderr();
  EXPECT_CONTAINS(warning, (first / "librh_fixture_good.so").string());
  EXPECT_CONTAINS(warning, (second / "librh_fixture_same_id.so").string());
  EXPECT_EQ(catalogue.dtypes().size(), 1u);
  EXPECT_EQ(catalogue.plugins().size(), 2u);
  EXPECT_EQ(catalogue.find_dtype("fixture")->plugin, first / "librh_fixture_good.so");
}

TEST_F(Discovery, OneFileReachedTwiceIsOnePlugin) {
  const fs::path folder = install("a", {"good"});
  fs::create_directory_symlink(folder, root_ / "link");
  DiscoveryOptions both = options();
  both.directories = {root_ / "link", folder};
  EXPECT_EQ(Catalogue::discover(both).plugins().size(), 1u);
}

TEST_F(Discovery, OnlyPluginFileNamesCount) {
  const fs::path folder = install("a", {"good"});
  fs::rename(folder / "librh_fixture_good.so", folder / "fixture_good.so");
  EXPECT_TRUE(discover_in(folder).plugins().empty());
}

TEST_F(Discovery, AFolderThatEveryoneMayWriteToIsRefused) {
  const fs::path folder = install("open", {"good"});
  ::chmod(folder.c_str(), 0777);
  Catalogue catalogue = discover_in(folder);
  EXPECT_TRUE(catalogue.plugins().empty());
  const std::string message = error_of([&] { catalogue.dtype("fixture"); });
  EXPECT_CONTAINS(message, "refused " + folder.string() + ": every user may write to this folder");
}

TEST_F(Discovery, AFileThatEveryoneMayWriteToOrReplaceIsRefused) {
  const fs::path folder = install("a/b", {"good", "other"});
  const fs::path file = folder / "librh_fixture_good.so";
  ::chmod(file.c_str(), 0666);
  Catalogue catalogue = discover_in(folder);
  EXPECT_EQ(names(catalogue), Names{"other"});
  EXPECT_CONTAINS(error_of([&] { catalogue.dtype("fixture"); }),
                  "refused " + file.string() + ": every user may write to this file");
  ::chmod(file.c_str(), 0644);
  ::chmod((root_ / "a").c_str(), 0777);
  EXPECT_CONTAINS(error_of([&] { discover_in(folder).dtype("fixture"); }),
                  "refused " + folder.string() + ": every user may replace what is in " + (root_ / "a").string());
  ::chmod((root_ / "a").c_str(), 01777);  // as /tmp
  EXPECT_EQ(names(discover_in(folder)), (Names{"fixture", "other"}));
}

TEST_F(Discovery, WithAListOfDigestsNoOtherPluginIsLoaded) {
  const fs::path folder = install("a", {"good", "other"});
  const std::string good = sha256_of_file(folder / "librh_fixture_good.so");
  const fs::path list = root_ / "allowed.txt";
  std::ofstream(list) << "# approved\n\n" << good << "  librh_fixture_good.so\n";
  set("ROUNDHOUSE_PLUGIN_ALLOW", list);
  Catalogue catalogue = discover_in(folder);
  EXPECT_EQ(names(catalogue), Names{"fixture"});
  EXPECT_CONTAINS(error_of([&] { catalogue.dtype("other"); }),
                  "refused " + (folder / "librh_fixture_other.so").string() +
                      ": its SHA-256 is not in the list of ROUNDHOUSE_PLUGIN_ALLOW (" +
                      sha256_of_file(folder / "librh_fixture_other.so") + ")");
  std::ofstream(folder / "librh_fixture_good.so", std::ios::app) << "changed";
  EXPECT_TRUE(discover_in(folder).plugins().empty());
  std::ofstream(list) << "librh_fixture_good.so\n";
  EXPECT_CONTAINS(error_of([&] { discover_in(folder); }),
                  list.string() + ":1 (ROUNDHOUSE_PLUGIN_ALLOW) does not begin");
  fs::remove(list);
  EXPECT_CONTAINS(error_of([&] { discover_in(folder); }), "ROUNDHOUSE_PLUGIN_ALLOW: ");
}

TEST_F(Discovery, WhatTheCommandLineNamesMustBeThere) {
  DiscoveryOptions missing = options();
  missing.files = {root_ / "librh_none.so"};
  EXPECT_CONTAINS(error_of([&] { Catalogue::discover(missing); }), "no plugin file " + missing.files[0].string());
  missing = options();
  missing.directories = {root_ / "none"};
  EXPECT_CONTAINS(error_of([&] { Catalogue::discover(missing); }),
                  "no plugin folder " + missing.directories[0].string());
}

TEST_F(Discovery, LoadsOnlyWhatIsAskedForAndOnce) {
  Catalogue catalogue = discover_in(install("a", {"good", "other"}));
  EXPECT_EQ(trace(), "fixture\nother\n");  // the scans
  const rh_dtype* table = catalogue.dtype("other").table;
  EXPECT_STREQ(table->descriptor->id, "other");
  EXPECT_EQ(catalogue.dtype("other").table, table);
  EXPECT_EQ(trace(), "fixture\nother\nother\n");
}

TEST_F(Discovery, ACacheHitStartsNothing) {
  const fs::path folder = install("a", {"good", "crash_in_init"});
  discover_in(folder);
  ASSERT_EQ(trace(), "fixture\n");
  ASSERT_TRUE(fs::exists(root_ / "cache/roundhouse/plugins.json"));
  const Catalogue again = discover_in(folder);
  EXPECT_EQ(trace(), "fixture\n");
  ASSERT_EQ(again.plugins().size(), 2u);
  EXPECT_EQ(again.plugins()[0].reason, "SIGSEGV in init");
  ASSERT_EQ(again.dtypes().size(), 1u);
  EXPECT_EQ(again.dtypes()[0]->aliases.size(), 3u);
  EXPECT_EQ(again.dtypes()[0]->plugin, folder / "librh_fixture_good.so");
}

TEST_F(Discovery, AChangedFileIsScannedAgain) {
  const fs::path folder = install("a", {"good"});
  const fs::path file = folder / "librh_fixture_good.so";
  discover_in(folder);
  fs::last_write_time(file, fs::last_write_time(file) - std::chrono::seconds(5));
  discover_in(folder);
  EXPECT_EQ(trace(), "fixture\nfixture\n");
  fs::copy_file(fixture("other"), file, fs::copy_options::overwrite_existing);
  EXPECT_EQ(names(discover_in(folder)), Names{"other"});
}

TEST_F(Discovery, AFileWhoseTimeWasPutBackIsScannedAgain) {
  const fs::path folder = install("a", {"good"});
  const fs::path file = folder / "librh_fixture_good.so";
  discover_in(folder);
  const auto time = fs::last_write_time(file);
  {
    std::fstream same(file, std::ios::binary | std::ios::in | std::ios::out);
    const auto first = static_cast<char>(same.get());
    same.seekp(0);
    same.put(first);
  }
  fs::last_write_time(file, time);
  discover_in(folder);
  EXPECT_EQ(trace(), "fixture\nfixture\n");
}

TEST_F(Discovery, WithoutCacheEveryStartScans) {
  DiscoveryOptions options = this->options();
  options.directories = {install("a", {"good"})};
  options.use_cache = false;
  Catalogue::discover(options);
  Catalogue::discover(options);
  EXPECT_EQ(trace(), "fixture\nfixture\n");
  EXPECT_FALSE(fs::exists(root_ / "cache"));
}

TEST_F(Discovery, AnUnusableCacheIsReplacedSilently) {
  const fs::path folder = install("a", {"good"});
  const fs::path cache = root_ / "cache/roundhouse/plugins.json";
  fs::create_directories(cache.parent_path());
  for (const char* content : {"", "{\"host\": 1", "[1, 2]",
                              "{\"host\": {\"version\": 1, \"abi_major\": 1, \"abi_minor\": 0}, "
                              "\"plugins\": {\"x\": 3}}"}) {
    std::ofstream(cache) << content;
    EXPECT_EQ(names(discover_in(folder)), Names{"fixture"}) << content;
    EXPECT_EQ(names(discover_in(folder)), Names{"fixture"}) << content;
  }
  EXPECT_EQ(trace(), "fixture\nfixture\nfixture\nfixture\n");  // one scan each
}

TEST_F(Discovery, ACacheThatCannotBeReadIsAWarning) {
  const fs::path cache = root_ / "cache/roundhouse/plugins.json";
  fs::create_directories(cache);
  testing::internal::CaptureStderr();
  EXPECT_EQ(names(discover_in(install("a", {"good"}))), Names{"fixture"});
  EXPECT_CONTAINS(testing::internal::GetCapturedStderr(), cache.string() + ": cannot be read");
}

TEST_F(Discovery, ACacheThatCannotBeWrittenCostsOnlyTime) {
  std::ofstream(root_ / "cache") << "a file where the folder should be";
  const fs::path folder = install("a", {"good"});
  EXPECT_EQ(names(discover_in(folder)), Names{"fixture"});
  EXPECT_EQ(names(discover_in(folder)), Names{"fixture"});
}

TEST_F(Discovery, AnUnknownNameIsAnsweredWithWhatThereIs) {
  Catalogue catalogue = discover_in(install("a", {"good", "other", "null_id"}));
  const std::string message = error_of([&] { catalogue.dtype("fixtrue"); });
  EXPECT_CONTAINS(message, "no plugin offers the data type \"fixtrue\" (did you mean fixture?)");
  EXPECT_CONTAINS(message, "There are: fixture, other.");
  EXPECT_CONTAINS(message, "in: " + (root_ / "a").string());
  EXPECT_CONTAINS(message,
                  "blocked " + (root_ / "a/librh_fixture_null_id.so").string() + ": the id of data type 0 is NULL");
  EXPECT_CONTAINS(error_of([&] { catalogue.format("none"); }), "no plugin offers the format \"none\"");
}

TEST_F(Discovery, AFormatIsFoundByItsAliasWithTheOptionsThatItStandsFor) {
  const fs::path folder = install("a", {"format"});
  for (const char* scan : {"fresh", "from the cache"}) {
    SCOPED_TRACE(scan);
    Catalogue catalogue = discover_in(folder);
    const FormatRecord* record = catalogue.find_format("fixture_format:deep");
    ASSERT_TRUE(record);
    EXPECT_EQ(record->id, "fixture_format");
    EXPECT_EQ(catalogue.format("fixture_format:deep").table, catalogue.format("fixture_format").table);
    EXPECT_EQ(catalogue.format_options("fixture_format:deep", {{"level", 3}}),
              (nlohmann::json{{"kind", "deep"}, {"level", 3}}));
    EXPECT_EQ(catalogue.format_options("fixture_format", nlohmann::json::object()), nlohmann::json::object());
    EXPECT_CONTAINS(error_of([&] { catalogue.format("fixture_format:deeep"); }), "(did you mean fixture_format:deep?)");
  }
}

TEST_F(Discovery, MovingAllPluginsAwayAndOneBackMakesExactlyItWork) {
  const fs::path folder = install("lib/roundhouse/plugins", {"good", "other", "format"});
  EXPECT_STREQ(Catalogue::discover(options()).dtype("fixture").table->descriptor->id, "fixture");
  fs::rename(folder, root_ / "away");
  fs::create_directory(folder);
  {
    Catalogue empty = Catalogue::discover(options());
    const std::string message = error_of([&] { empty.dtype("fixture"); });
    EXPECT_CONTAINS(message, "no plugin offers the data type \"fixture\". There are: none.");
    EXPECT_CONTAINS(message, folder.string());
  }
  fs::rename(root_ / "away/librh_fixture_other.so", folder / "librh_fixture_other.so");
  Catalogue one = Catalogue::discover(options());
  EXPECT_STREQ(one.dtype("other").table->descriptor->id, "other");
  EXPECT_CONTAINS(error_of([&] { one.dtype("fixture"); }), "There are: other.");
  EXPECT_CONTAINS(error_of([&] { one.format("fixture_format"); }), "There are: none.");
}

}  // namespace
}  // namespace roundhouse
