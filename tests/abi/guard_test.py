# SPDX-License-Identifier: Apache-2.0
"""The ABI guard: the headers are as published, every way to break them is seen, and a new minor can be added."""
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sdk/abi"))
sys.dont_write_bytecode = True
import guard
from next_minor import write_next_minor

# name: (header, what is replaced once, by what, what the guard must say)
MUTATIONS = {
    "insert a member in the middle":
        ("dtype.h", "  const rh_tensor_spec *const *states;\n  const rh_tensor_spec *const *results;",
         "  const rh_tensor_spec *const *states;\n  const char *inserted;\n  const rh_tensor_spec *const *results;",
         "breaks 1.0: rh_quantizer_info: member"),
    "swap two members of one type":
        ("dtype.h", "  const rh_tensor *input;\n  rh_tensor *statistic; /* out */",
         "  rh_tensor *statistic; /* out */\n  const rh_tensor *input;", "breaks 1.0: rh_measure_args: member"),
    "rename a function":
        ("ext/output.h", "  rh_code (*write)(rh_file *file, const void *bytes, uint64_t size, rh_error *error);",
         "  rh_code (*write2)(rh_file *file, const void *bytes, uint64_t size, rh_error *error);", "rh_output: member"),
    "remove a member":
        ("format.h", "  const char *options_json; /* options that the name stands for, an object */\n", "",
         "rh_format_alias: RH_ASSERT_END names"),
    "remove a member in the middle":
        ("layer.h", "  const char *role; /* \"q_proj\": the descriptor's word; \"\" when unknown */\n", "",
         "rh_layer: member"),
    "narrow a member":
        ("layer.h", "int64_t rows; /* weight", "int32_t rows; /* weight", "padding struct"),
    "another type of the same size":
        ("scheme.h", "  float scale_threshold;", "  int32_t scale_threshold;", "abidiff exits"),
    "another sign":
        ("host.h", "  uint64_t workspace_size;", "  int64_t workspace_size;", "abidiff exits"),
    "an array's length":
        ("tensor.h", "#define RH_MAX_DIMS 8", "#define RH_MAX_DIMS 16", "RH_MAX_DIMS was 8, and is 16"),
    "a parameter more":
        ("dtype.h", "int32_t device_type, int64_t rows);", "int32_t device_type, int64_t rows, int64_t cols);",
         "abidiff exits"),
    "a parameter's type":
        ("format.h", "rh_code (*add_tensor)(struct rh_writer *writer, const char *name, const rh_tensor *tensor,",
         "rh_code (*add_tensor)(struct rh_writer *writer, const rh_tensor *name, const rh_tensor *tensor,",
         "abidiff exits"),
    "a return type":
        ("format.h", "  void (*abort)(struct rh_writer *writer);", "  rh_code (*abort)(struct rh_writer *writer);",
         "abidiff exits"),
    "the result codes' type":
        ("abi.h", "typedef int32_t rh_code;", "typedef int64_t rh_code;", "does not compile"),
    "a constant": ("ext/log.h", "#define RH_LOG_WARNING 2", "#define RH_LOG_WARNING 4", "RH_LOG_WARNING was 2, and is 4"),
    "a constant is gone": ("abi.h", "#define RH_OUT_OF_RANGE 11\n", "", "RH_OUT_OF_RANGE was 11, and is gone"),
    "an id":
        ("ext/output.h", '"roundhouse.output/1"', '"roundhouse.output/2"', "RH_EXT_OUTPUT was"),
    "the major": ("abi.h", "#define RH_ABI_MAJOR 1", "#define RH_ABI_MAJOR 2", "RH_ABI_MAJOR was 1, and is 2"),
    "drop struct_size":
        ("ext/log.h", "typedef struct rh_log {\n  uint32_t struct_size;\n", "typedef struct rh_log {\n  uint32_t size;\n",
         "rh_log: struct_size is not its first member"),
    "drop a thread tag":
        ("format.h", "/* How many tensors the checkpoint holds; the same until close. [worker] since 1.0 */",
         "/* How many tensors the checkpoint holds; the same until close. since 1.0 */", "rh_reader.count: its comment"),
    "drop a version":
        ("entry.h", "The code stays loaded. [main] since 1.0 */", "The code stays loaded. [main] */",
         "rh_entry.deinit: its comment"),
    "drop what a function does":
        ("format.h", "/* How many tensors the checkpoint holds; the same until close. [worker] since 1.0 */",
         "/* [worker] since 1.0 */", "rh_reader.count: its comment does not say what it does"),
    "drop a struct's version":
        ("format.h", "/* What a format opens. Borrowed for the call. since 1.0 */", "/* What a format opens. */",
         "rh_open: its comment"),
    "drop an encoding's version":
        ("encoding.h", "a row is whole blocks\n * since 1.0 */", "a row is whole blocks */",
         "RH_ENCODING_GGML_BLOCK: its comment"),
    "an enum":
        ("ext/parallel.h", "  int32_t (*max_threads)", "  enum rh_level { kLow } (*max_threads)", "enum in a declaration"),
    "a bit-field":
        ("dtype.h", "  uint32_t tunable_count;", "  uint32_t tunable_count : 31;", "a bit-field"),
    "a long": ("format.h", "  uint64_t max_shard_bytes;", "  long max_shard_bytes;", "long in a declaration"),
    "varargs":
        ("ext/log.h", "int32_t severity, const char *message);", "int32_t severity, const char *message, ...);",
         "... in a declaration"),
    "a struct by value":
        ("dtype.h", "  rh_code (*check)(const struct rh_dtype *dtype, const rh_layer *layer,",
         "  rh_code (*check)(const struct rh_dtype *dtype, const rh_layer layer,", "rh_layer passed by value"),
    "a struct returned by value":
        ("dtype.h", "const rh_quantizer_info *(*info)", "rh_quantizer_info (*info)", "rh_quantizer_info returned by value"),
    "a frozen struct grows":
        ("tensor.h", "  uint64_t byte_offset; /* 0 */\n", "  uint64_t byte_offset; /* 0 */\n  uint64_t flags;\n",
         "rh_tensor is frozen with 48 bytes, and has 56"),
    "a member above the end":
        ("dtype.h", "  rh_tensor *statistic; /* out */\n",
         "  rh_tensor *statistic; /* out */\n  const char *appended;\n", "abidiff exits"),
    "a member behind the end, without a minor":
        ("dtype.h", "  /* end of 1.0: do not modify above */\n} rh_alias;",
         "  /* end of 1.0: do not modify above */\n  const char *appended;\n} rh_alias;",
         "RH_ABI_MINOR is still 0, but there is more than in 1.0: rh_alias.appended"),
    "an end is dropped":
        ("dtype.h", "  /* end of 1.0: do not modify above */\n} rh_alias;", "} rh_alias;", "rh_alias: its last line"),
    "an assert is dropped":
        ("dtype.h", "RH_ASSERT_END(rh_alias, scheme_json, 24);\n", "", "rh_alias: RH_ASSERT_END names []"),
    "hidden padding":
        ("scheme.h", "  uint32_t reserved;\n  const char *options_json;", "  const char *options_json;", "padding struct"),
    "another answer to a plan": ("format.h", "#define RH_TENSOR_OMITTED 2", "#define RH_TENSOR_OMITTED 3",
                                 "RH_TENSOR_OMITTED was 2, and is 3"),
    "a C helper in C++":
        ("encoding/parameters.h", "typedef struct rh_mx {", "using rh_bits = int32_t;\ntypedef struct rh_mx {",
         "encoding/parameters.h does not compile as c11"),
    "a second exported function":
        ("entry.h", "RH_EXTERN_C RH_EXPORT const rh_entry *rh_get_entry(void);",
         "RH_EXTERN_C RH_EXPORT const rh_entry *rh_get_entry(void);\n"
         "RH_EXTERN_C RH_EXPORT const rh_entry *rh_get_other(void);", "other exported functions"),
    "C++ in a C header": ("abi.h", "typedef int32_t rh_code;", "using rh_code = int32_t;", "does not compile as c11"),
    "another include": ("abi.h", "#include <stddef.h>", "#include <vector>\n#include <stddef.h>", "does not compile as c11"),
}


class Guard(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def copy(self):
        """The published headers, to be changed."""
        include = self.folder / "include"
        shutil.rmtree(include, ignore_errors=True)
        shutil.copytree(guard.frozen_versions()[-1].root / "roundhouse", include / "roundhouse")
        return include

    def change(self, include, header, old, new):
        path = include / "roundhouse" / header
        # Whatever the blanks are: clang-format moves them.
        before, after = re.match(r" *", old)[0], "\n" if old.endswith("\n") else ""
        pattern = before + r"\s+".join(re.escape(word) for word in old.split()) + after
        text, count = re.subn(pattern, lambda _: new, path.read_text())
        self.assertEqual(count, 1, f"{header} has {old!r} that often; update the mutation")
        path.write_text(text)

    def problems(self, include):
        return "\n".join(guard.check(include)[0])


class Headers(Guard):
    def test_are_as_published(self):
        self.assertEqual(guard.check(), ([], []), "docs/abi.md, Publishing a minor")

    def test_published_copies_agree_with_themselves(self):
        for version in guard.frozen_versions():
            self.assertEqual(guard.layout(version), (version.root / "layout.txt").read_text())
            self.assertEqual(guard.exports(version), (version.root / "exports.txt").read_text())
            self.assertEqual(list(guard.compare_types(version, version)), [])


class Mutations(Guard):
    def test_every_one_is_seen(self):
        self.assertEqual(self.problems(self.copy()), "")
        for name, (header, old, new, words) in MUTATIONS.items():
            with self.subTest(name):
                include = self.copy()
                self.change(include, header, old, new)
                self.assertIn(words, self.problems(include))

    def test_helpers_are_free_to_change(self):
        include = self.copy()
        self.change(include, "encoding/parameters.h", "  int32_t type; /* RH_GGML_* */",
                    "  int32_t more;\n  int32_t type; /* RH_GGML_* */")
        self.change(include, "encoding/mx.hpp", "  const char* name() const", "  const char* other_name() const")
        self.assertEqual(self.problems(include), "")

    def test_abidiff_alone_sees_what_the_layout_sees(self):
        frozen = guard.frozen_versions()[-1]
        for name in ("insert a member in the middle", "swap two members of one type", "remove a member in the middle"):
            with self.subTest(name):
                include = self.copy()
                self.change(include, *MUTATIONS[name][:3])
                self.assertIn("abidiff exits 4", "\n".join(guard.compare_types(frozen, guard.Headers(include))))

    def test_a_probe_without_debug_information_is_refused(self):
        frozen = guard.frozen_versions()[-1]
        self.assertEqual(list(guard.compare_types(frozen, frozen, flags=())),
                         ["the probe has no .debug_info, so abidiff would find nothing"])


class NextMinor(Guard):
    def test_appended_members_are_a_minor(self):
        include = self.folder / "next"
        write_next_minor(guard.frozen_versions()[-1].root, include)
        problems, added = guard.check(include)
        self.assertEqual(problems, [])
        self.assertIn("rh_quantizer.added_call", added)
        self.assertGreater(len(added), 50)

    def test_a_published_version_stays(self):
        versions = self.folder / "versions"
        versions.mkdir()
        include = self.copy()
        version = guard.Headers(include).constants["RH_SDK_VERSION"]
        draft = f'"{version.strip(chr(34))}-draft"'
        self.change(include, "abi.h", f"#define RH_SDK_VERSION {version}", f"#define RH_SDK_VERSION {draft}")
        guard.freeze(include, versions)
        guard.freeze(include, versions)  # a draft may be frozen again
        self.change(include, "abi.h", f"#define RH_SDK_VERSION {draft}", f"#define RH_SDK_VERSION {version}")
        published = guard.freeze(include, versions)
        self.assertEqual([path.name for path in versions.iterdir()], [version.strip('"')])
        with self.assertRaisesRegex(guard.Problem, "is published; raise RH_ABI_MINOR"):
            guard.freeze(include, versions)

        following = self.folder / "following"
        write_next_minor(include, following)
        guard.freeze(following, versions)
        self.assertEqual(len(list(versions.iterdir())), 2)
        self.assertEqual(guard.check(following, guard.frozen_versions(versions)), ([], []))
        self.assertIn("less than in", "\n".join(guard.check(include, guard.frozen_versions(versions))[0]))
        # What 1.0 and 1.1 hold is fixed: a swap in 1.0's part breaks both, one in 1.1's part breaks 1.1.
        header = following / "roundhouse" / "format.h"
        text = header.read_text()
        first, second = "  const char *added_text; /* since", "  int32_t (*added_call)(void);"
        self.assertGreater(text.count(first), 1)
        header.write_text(text.replace("  const char *added_text;", "  const void *added_text;", 1))
        problems = "\n".join(guard.check(following, guard.frozen_versions(versions))[0])
        self.assertNotIn(f"breaks {published.name}", problems)
        self.assertIn("abidiff exits", problems)
        self.assertIn(second, text)


class Plugins(unittest.TestCase):
    def test_export_one_function_and_need_nothing_of_the_host(self):
        wanted = (guard.frozen_versions()[-1].root / "exports.txt").read_text()
        self.assertEqual(wanted, "rh_get_entry\n")
        plugins = sorted(pathlib.Path(os.environ["ROUNDHOUSE_PLUGINS"]).glob("*.so"))
        self.assertGreater(len(plugins), 5)
        for plugin in plugins:
            self.assertEqual(list(guard.check_plugin(plugin, wanted)), [])

    def test_a_library_that_exports_more_is_refused(self):
        program = os.environ["ROUNDHOUSE_LIBRARY"]
        problems = "\n".join(guard.check_plugin(program, "rh_get_entry\n"))
        self.assertIn("exports", problems)
        self.assertIn("torch", problems)


if __name__ == "__main__":
    unittest.main()
