// SPDX-License-Identifier: Apache-2.0
// A host and plugins built against the same or other minors: compiled against today's headers and against simulated
// next ones, run with plugins of every published minor and of the next.
#include <nlohmann/json.hpp>

#include "host/abi/quantizer.h"
#include "host/discovery/library.h"
#include "tests/plugins/sandbox.h"

namespace roundhouse {
namespace {

#ifdef RH_SIMULATED_MINOR
constexpr bool kNewHost = true;
#else
constexpr bool kNewHost = false;
#endif

class Matrix : public Sandbox {
 protected:
  Matrix() : catalogue_(discover_in(install("a", {"good", "format"}))) {}

  bool new_plugin() const { return Path(std::getenv("ROUNDHOUSE_FIXTURES")).filename() == "next"; }

  Catalogue catalogue_;
};

TEST_F(Matrix, EveryMinorLoads) {
  ASSERT_EQ(catalogue_.plugins().size(), 2u);
  for (const PluginRecord& plugin : catalogue_.plugins()) {
    EXPECT_EQ(plugin.status, "ok") << plugin.reason;
    EXPECT_EQ(plugin.abi_major, RH_ABI_MAJOR);
    if (new_plugin())
      EXPECT_EQ(plugin.abi_minor, RH_ABI_MINOR + !kNewHost);
    else
      EXPECT_LE(plugin.abi_minor, RH_ABI_MINOR - kNewHost);
  }
}

TEST_F(Matrix, ANewMemberIsSeenWhereBothKnowIt) {
  TensorScheme scheme;
  scheme.dtype = "fixture";
  scheme.bits = 8;
  const Quantizer quantizer(catalogue_.dtype(scheme.dtype), scheme, {"layer", "", 1, 2, DType::kF32});
  const auto parameters = nlohmann::json::parse(quantizer.info().encoding->parameters_json);
  EXPECT_EQ(parameters, new_plugin() ? (nlohmann::json{{"added", kNewHost}}) : nlohmann::json::object())
      << "what the plugin saw of the host's structs";
#ifdef RH_SIMULATED_MINOR
  const rh_dtype* dtype = catalogue_.dtype("fixture").table;
  ASSERT_EQ(RH_HAS(dtype, added_call), new_plugin()) << "what the host sees of the plugin's structs";
  if (new_plugin()) {
    EXPECT_EQ(dtype->added_call(), RH_ABI_MINOR);
    EXPECT_STREQ(dtype->added_text, "added");
  }
#endif
}

TEST_F(Matrix, UnknownIdsGiveNull) {  // the format plugin asks the host for one, whenever it writes
  const rh_format* format = catalogue_.format("fixture_format").table;
  EXPECT_EQ(format->get_extension(format, "example.com/unknown/1"), nullptr);
  const PluginLibrary library(fixture("good"));
  EXPECT_TRUE(library.formats().empty());
}

TEST_F(Matrix, ANewerMajorIsRefusedInWords) {
  const Catalogue catalogue = discover_in(install("b", {"next_major", "good"}));
  ASSERT_EQ(catalogue.plugins().size(), 2u);
  EXPECT_EQ(catalogue.plugins()[0].status, "ok");
  EXPECT_EQ(catalogue.plugins()[1].reason, "abi_major is 2 in " + (root_ / "b/librh_fixture_next_major.so").string() +
                                               ", but this host has 1: use a newer Roundhouse");
}

}  // namespace
}  // namespace roundhouse
