// SPDX-License-Identifier: Apache-2.0
// Plugins that are broken, each in its own way: listed as blocked with the reason, and nothing else is hurt.
#include <elf.h>

#include <algorithm>
#include <chrono>

#include "host/abi/quantizer.h"
#include "tests/plugins/sandbox.h"

namespace roundhouse {
namespace {

namespace fs = std::filesystem;

class Faults : public Sandbox {
 protected:
  // The reason for which the plugin is blocked, found beside a good one that must not suffer.
  std::string reason(const fs::path& plugin, std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    DiscoveryOptions options = this->options();
    options.files = {plugin, fixture("good")};
    options.time_limit = limit;
    const Catalogue catalogue = Catalogue::discover(options);
    EXPECT_EQ(catalogue.plugins().size(), 2u);
    EXPECT_EQ(catalogue.plugins()[0].path, plugin);
    EXPECT_EQ(catalogue.plugins()[1].status, "ok") << catalogue.plugins()[1].reason;
    EXPECT_EQ(catalogue.plugins()[0].status, "blocked");
    EXPECT_EQ(catalogue.plugins()[0].reason.find('\n'), std::string::npos) << "one line";
    return catalogue.plugins()[0].reason;
  }
  std::string reason(const char* name) { return reason(fixture(name)); }

  // A copy of the good plugin with its bytes changed by `change`.
  template <typename Change>
  fs::path damaged(Change&& change) {
    std::ifstream in(fixture("good"), std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), {}};
    change(bytes);
    const fs::path path = root_ / "librh_damaged.so";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
};

TEST_F(Faults, CrashSaysSignalAndStage) {
  EXPECT_EQ(reason("crash_in_init"), "SIGSEGV in init");
  EXPECT_EQ(reason("crash_in_factory"), "SIGBUS in get_factory");
  EXPECT_EQ(reason("crash_in_descriptors"), "SIGSEGV in descriptors");
  EXPECT_EQ(reason("abort_in_init"), "SIGABRT in init");
}

TEST_F(Faults, ExitAndExceptionSayStage) {
  EXPECT_EQ(reason("exit_in_init"), "exited with status 0 in init");
  EXPECT_CONTAINS(reason("throws"), " in init");
}

TEST_F(Faults, HangEndsWithTheTimeLimit) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_CONTAINS(reason(fixture("hang_in_init"), std::chrono::milliseconds(300)), "no answer after 0.3 s in init");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
}

TEST_F(Faults, InitThatRefuses) { EXPECT_EQ(reason("fail_in_init"), "init failed: no licence"); }

TEST_F(Faults, NoSymbolOrNothingBehindIt) {
  EXPECT_CONTAINS(reason("no_symbol"), "no symbol rh_get_entry");
  EXPECT_EQ(reason("null_entry"), "rh_get_entry returned NULL");
  EXPECT_CONTAINS(reason("no_factory"), "neither data types nor formats");
}

TEST_F(Faults, GarbageDescriptors) {
  EXPECT_EQ(reason("null_id"), "the id of data type 0 is NULL");
  EXPECT_EQ(reason("empty_id"), "the id of data type 0 is empty");
  EXPECT_EQ(reason("bad_size"), "the descriptor of data type 0 has the impossible struct_size 3");
  EXPECT_EQ(reason("no_descriptor"), "the descriptor of data type 0 is NULL");
  EXPECT_EQ(reason("duplicate"), "declares the data type faulty twice");
  EXPECT_EQ(reason("format_no_plan"), "faulty lacks one of check, plan, begin, probe, open");
  EXPECT_EQ(reason("format_alias_json"), "what alias 0 of faulty stands for is not a JSON object");
  EXPECT_EQ(reason("format_alias_of_itself"), "declares the format faulty twice");
  EXPECT_EQ(reason("bad_json"), "options_schema_json of faulty is not a JSON object");
}

TEST_F(Faults, AnotherMajorIsRefusedWithFieldVersionsAndPath) {
  const std::string newer = reason("next_major");
  EXPECT_CONTAINS(newer, "abi_major is 2 in " + fixture("next_major").string() + ", but this host has 1");
  EXPECT_CONTAINS(newer, "use a newer Roundhouse");
  EXPECT_CONTAINS(reason("previous_major"), "abi_major is 0");
}

TEST_F(Faults, NotAWholeElfFileForThisMachine) {
  EXPECT_EQ(reason(damaged([](std::string& bytes) { bytes = "#!/bin/sh\necho no\n"; })),
            "is not an ELF file, so no shared object");
  EXPECT_EQ(reason(damaged([](std::string& bytes) { bytes.clear(); })), "is not an ELF file, so no shared object");
  for (const size_t size : {size_t{20}, size_t{100}, size_t{5000}}) {
    EXPECT_EQ(reason(damaged([&](std::string& bytes) { bytes.resize(size); })),
              "is cut off: the file has only " + std::to_string(size) + " bytes");
  }
  EXPECT_CONTAINS(reason(damaged([](std::string& bytes) { bytes[offsetof(Elf64_Ehdr, e_machine)] = char(EM_RISCV); })),
                  "another machine (RISC-V)");
  EXPECT_CONTAINS(reason(damaged([](std::string& bytes) { bytes[offsetof(Elf64_Ehdr, e_type)] = ET_REL; })),
                  "no shared object");
}

TEST_F(Faults, AMissingLibraryIsNamedAndForgottenOnceItIsThere) {
  EXPECT_CONTAINS(reason("needs_absent"), "libfixture_absent.so");
  std::ifstream cache(root_ / "cache/roundhouse/plugins.json");
  const std::string text{std::istreambuf_iterator<char>(cache), {}};
  EXPECT_CONTAINS(text, "librh_fixture_good.so");
  EXPECT_EQ(text.find("needs_absent"), std::string::npos) << "installing the library does not touch the plugin";
}

TEST_F(Faults, OlderAndNewerMinorsWorkWithSmallerAndLargerStructs) {
  for (const char* name : {"older", "newer"}) {
    DiscoveryOptions options = this->options();
    options.files = {fixture(name)};
    Catalogue catalogue = Catalogue::discover(options);
    ASSERT_EQ(catalogue.plugins()[0].status, "ok") << catalogue.plugins()[0].reason;
    TensorScheme scheme;
    scheme.dtype = "fixture";
    scheme.bits = 8;
    Quantizer quantizer(catalogue.dtype(scheme.dtype), scheme, {"layer", "", 1, 2, DType::kF32});
    EXPECT_FALSE(quantizer.has_sign_step()) << "no sign_step, or a table that ends before it: " << name;
    EXPECT_TRUE(quantizer.has_backward());
  }
  DiscoveryOptions options = this->options();
  options.files = {fixture("older")};
  EXPECT_TRUE(Catalogue::discover(options).dtypes()[0]->aliases.empty()) << "its descriptor ends before them";
}

TEST_F(Faults, OlderQuantizerTableLacksWhatItDoesNotHold) {
  DiscoveryOptions options = this->options();
  options.files = {fixture("older")};
  Catalogue catalogue = Catalogue::discover(options);
  TensorScheme scheme;
  scheme.dtype = "fixture";
  scheme.bits = 8;
  Quantizer quantizer(catalogue.dtype(scheme.dtype), scheme, {"layer.0", "", 1, 2, DType::kF32});
  const Tensor weight(DType::kF32, {1, 2});
  const std::string message = error_of([&] { quantizer.encode({}, weight.view(), nullptr, nullptr, nullptr); });
  EXPECT_EQ(message, "plugin fixture (" + fixture("older").string() + ") has no encode, which layer.0 needs");
}

}  // namespace
}  // namespace roundhouse
