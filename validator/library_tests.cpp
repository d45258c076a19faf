// SPDX-License-Identifier: Apache-2.0
// The shared object itself, its entry, and its life from init to deinit.
#include <chrono>
#include <thread>

#include "validator/elf.h"
#include "validator/plugin.h"
#include "validator/services.h"

namespace roundhouse::validator {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kInitLimit = 0.1;  // seconds
constexpr int kRounds = 24;

void load(Context& context) { load_plugin(context.file); }

void exports(Context& context) {
  std::string others;
  bool found = false;
  for (const std::string& name : read_shared_object(context.file).exports) {
    if (name == RH_ENTRY_SYMBOL)
      found = true;
    else
      others += (others.empty() ? "" : ", ") + name;
  }
  expect(found && others.empty(), "dynamic symbols", RH_ENTRY_SYMBOL " alone", found ? "also " + others : "without it");
}

void needed(Context& context) {
  for (const std::string& name : read_shared_object(context.file).needed) {
    for (const char* forbidden : {"libtorch", "libc10", "libgomp", "libomp", "libiomp", "libtbb", "libroundhouse"})
      expect(name.rfind(forbidden, 0) != 0, "DT_NEEDED",
             "neither the host's libraries nor thread pools of the plugin's own", name);
  }
}

void entry(Context& context) {
  const rh_entry* entry = load_plugin(context.file);
  expect(load_plugin(context.file) == entry, RH_ENTRY_SYMBOL, "the same pointer each time", "another one");
  expect(entry->struct_size >= sizeof(rh_entry) && entry->struct_size < 1u << 16, "rh_entry.struct_size",
         text("at least ", sizeof(rh_entry), ", that of 1.0"), text(entry->struct_size));
  expect(entry->abi_minor < 1000, "rh_entry.abi_minor", "a minor version", text(entry->abi_minor));
  checked_text(entry->name, "rh_entry.name");
  checked_text(entry->vendor, "rh_entry.vendor");
  checked_text(entry->version, "rh_entry.version");
  checked_text(entry->summary, "rh_entry.summary");
  expect(*entry->name, "rh_entry.name", "a short name for messages", "an empty string");
  expect(entry->init && entry->deinit && entry->get_factory, "rh_entry", "init, deinit and get_factory", "NULL");
}

void version(Context& context) {
  const rh_entry* entry = load_plugin(context.file);
  expect(entry->abi_major == RH_ABI_MAJOR, "rh_entry.abi_major", text(RH_ABI_MAJOR, ", as these headers have it"),
         text(entry->abi_major, ": every host of this major version refuses the plugin"));
}

void offers(Context& context) {
  const Started plugin(context.file);
  expect(plugin.dtype_factory() || plugin.format_factory(), "get_factory", "a data type or a format factory",
         "NULL for both");
}

void unknown_ids(Context& context) {
  const Started plugin(context.file);
  for (const char* id : {"", "roundhouse.no-such-factory/1", RH_DTYPE_FACTORY "0", "roundhouse.dtype-factory/2",
                         "roundhouse.format-factory/2"}) {
    const void* factory = guarded("get_factory", [&] { return plugin.entry()->get_factory(id); });
    expect(!factory, text("get_factory(", printable(id), ")"), "NULL", "a pointer");
  }
}

void init_counted(Context& context) {
  const rh_entry* entry = load_plugin(context.file);
  const auto init = [&](const char* where) {
    ErrorSlot error;
    const rh_code code = guarded(where, [&] { return entry->init(test_host(), error.get()); });
    expect(code == RH_OK, where, "RH_OK", text("code ", code));
  };
  const auto offers = [&](const char* where) {
    const bool any = guarded(where, [&] {
      const auto* dtypes = static_cast<const rh_dtype_factory*>(entry->get_factory(RH_DTYPE_FACTORY));
      const auto* formats = static_cast<const rh_format_factory*>(entry->get_factory(RH_FORMAT_FACTORY));
      return (dtypes && dtypes->count() > 0) || (formats && formats->count() > 0);
    });
    expect(any, where, "the plugin still works", "its factories are gone or empty");
  };
  init("the first init");
  offers("after the first init");
  init("the second init");
  offers("after the second init");
  guarded("the first deinit", [&] { entry->deinit(); });
  offers("after two inits and one deinit");
  guarded("the second deinit", [&] { entry->deinit(); });
  init("init after the last deinit");
  offers("after a fresh init");
  guarded("the last deinit", [&] { entry->deinit(); });
}

void init_time(Context& context) {
  const rh_entry* entry = load_plugin(context.file);
  const auto start = Clock::now();
  ErrorSlot error;
  guarded("init", [&] { return entry->init(test_host(), error.get()); });
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  expect(seconds < kInitLimit, "init", "under 100 ms", text(seconds * 1000, " ms"));
}

void threads(Context& context) {
  const size_t before = thread_count();
  const Started plugin(context.file);
  plugin.dtype_factory();
  plugin.format_factory();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const size_t after = thread_count();
  expect(after == before, "after init", text(before, " threads, as before"), text(after, " threads"));
}

void files(Context& context) {
  const std::filesystem::path cwd = std::filesystem::current_path();
  std::filesystem::current_path(context.scratch);
  const size_t before = descriptor_count();
  {
    const Started plugin(context.file);
    const size_t after = descriptor_count();
    expect(after == before, "after init", text(before, " open files, as before"), text(after));
    expect(std::filesystem::current_path() == std::filesystem::canonical(context.scratch), "after init",
           "the working folder as it was", std::filesystem::current_path().string());
  }
  for (const auto& file : std::filesystem::directory_iterator(context.scratch))
    fail("after init", "no file in the working folder", file.path().filename().string());
  std::filesystem::current_path(cwd);
}

void process_state(Context& context) {
  {
    const Watch watch("after dlopen, init and deinit");
    const Started plugin(context.file);
    plugin.dtype_factory();
    plugin.format_factory();
  }
  expect_nothing_left();
}

void newer_hosts(Context& context) {
  const Started plugin(context.file, newer_host());
  expect(plugin.dtype_factory() || plugin.format_factory(), "with a host 1.7, larger than 1.0", "the same factories",
         "none");
}

void bare_hosts(Context& context) {
  const rh_entry* entry = load_plugin(context.file);
  faults.extensions = false;
  ErrorSlot error;
  const rh_code code =
      guarded("init with a host that has no extension", [&] { return entry->init(test_host(), error.get()); });
  error.check(code, "init with a host that has no extension");
  if (code == RH_OK) guarded("deinit", [&] { entry->deinit(); });
}

void leaks(Context& context) {
  const rh_entry* entry = load_plugin(context.file);
  const auto round = [&] {
    ErrorSlot error;
    guarded("init", [&] { return entry->init(test_host(), error.get()); });
    guarded("deinit", [&] { entry->deinit(); });
  };
  for (int i = 0; i < 4; ++i) round();
  const size_t before = allocated_bytes();
  for (int i = 0; i < kRounds; ++i) round();
  const size_t after = allocated_bytes();
  expect(after < before + 8 * kRounds, text(kRounds, " rounds of init and deinit"), "memory given back",
         text((after - before) / kRounds, " bytes more each round"));
}

}  // namespace

void add_library_tests(std::vector<Test>& tests) {
  tests.insert(
      tests.end(),
      {{"library.load", "a plugin is a shared object that exports the function rh_get_entry", "entry.h", load},
       {"library.exports", "a plugin exports one function, rh_get_entry, and nothing else", "entry.h", exports},
       {"library.needed", "plugins bring no libtorch, no OpenMP and no threads of their own", "host.h", needed},
       {"library.entry", "rh_get_entry returns the same whole rh_entry each time; strings are UTF-8", "entry.h", entry},
       {"library.version", "an equal major version is required; its place is frozen in the first 8 bytes", "entry.h",
        version},
       {"library.init-counted", "init may be called more than once; each is paired with a deinit", "entry.h",
        init_counted},
       {"library.init-time", "init runs under 100 ms", "entry.h", init_time},
       {"library.threads", "init starts no thread", "entry.h", threads},
       {"library.files", "init does no I/O", "entry.h", files},
       {"library.process-state", kProcessState, "entry.h", process_state},
       {"library.offers", "a plugin offers a data type or a format", "entry.h", offers},
       {"library.unknown-ids", "get_factory returns NULL for an id that it does not know", "entry.h", unknown_ids},
       {"library.newer-host", "a differing minor version loads; readers compare struct_size with >=", "abi.h",
        newer_hosts},
       {"library.bare-host", "a plugin works without an extension, or says what it lacks", "host.h", bare_hosts},
       {"library.leaks", "deinit gives back what init took", "entry.h", leaks}});
}

}  // namespace roundhouse::validator
