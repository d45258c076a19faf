# SPDX-License-Identifier: Apache-2.0
"""A vendor's road, with the installed prefix alone: docs/plugin-author.md as it stands, the other templates and example,
and what a user can get wrong. The prefix is moved after the installation, and nothing refers to the source tree."""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

try:
    import yaml
except ImportError:
    yaml = None

SOURCE = pathlib.Path(__file__).resolve().parents[2]
arguments = argparse.ArgumentParser()
arguments.add_argument("--build", required=True)
arguments.add_argument("--cmake", default="cmake")
OPTIONS, REST = arguments.parse_known_args()


def run(command, **more):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)


class Vendor(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.top = pathlib.Path(tempfile.mkdtemp(prefix="roundhouse-vendor-"))
        installed, cls.prefix = cls.top / "installed", cls.top / "moved" / "prefix"
        done = run([OPTIONS.cmake, "--install", OPTIONS.build, "--prefix", str(installed)])
        if done.returncode:
            raise RuntimeError(done.stdout)
        cls.prefix.parent.mkdir()
        installed.rename(cls.prefix)
        # Everything else of the environment could hide what the prefix lacks.
        cls.environment = {"PATH": f"{cls.prefix}/bin:{pathlib.Path(OPTIONS.cmake).parent}:/usr/bin:/bin",
                           "HOME": str(cls.top), "PREFIX": str(cls.prefix), "OMP_WAIT_POLICY": "passive"}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.top)

    def shell(self, script, folder, code=0):
        done = run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=folder, env=self.environment)
        self.assertEqual(done.returncode, code, f"{script}\n{done.stdout}")
        return done.stdout

    def folder(self, name):
        (self.top / name).mkdir()
        return self.top / name

    def build_and_test(self, project, folder):
        return self.shell(f"""
            cmake -S {project} -B {project}/build -DCMAKE_PREFIX_PATH="$PREFIX"
            cmake --build {project}/build
            ctest --test-dir {project}/build --output-on-failure""", folder)

    def check_plugins(self, folder):
        """Each plugin exports one symbol, needs no libtorch, and was built from the prefix alone."""
        plugins = sorted(path for path in folder.rglob("librh_*.so") if "_CPack_Packages" not in path.parts)
        for plugin in plugins:
            exported = run(["nm", "-D", "--defined-only", str(plugin)]).stdout.split()
            self.assertEqual(exported[2::3], ["rh_get_entry"], plugin)
            self.assertNotRegex(run(["readelf", "-d", str(plugin)]).stdout, r"libtorch|libc10|RPATH|RUNPATH|libstdc\+\+")
        for made in folder.rglob("*.make"):
            self.assertNotIn(str(SOURCE), made.read_text(), made)
        return len(plugins)

    def test_tutorial(self):
        folder = self.folder("tutorial")
        text = (self.prefix / "share/doc/roundhouse/plugin-author.md").read_text()
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
        self.assertGreater(len(blocks), 5)
        output = self.shell("\n".join(blocks), folder)
        self.assertEqual(output.count("100% tests passed"), 3, output)
        if (self.prefix / "bin/roundhouse-validate").exists():
            for plugin in ("rh_dtype_bricks", "rh_dtype_nf4", "rh_format_nf4", "rh_format_crates"):
                self.assertIn(f"{plugin}.validate", output)

        report = json.loads((folder / "out/roundhouse/report.json").read_text())
        original, plain, tuned = (model["perplexity"] for model in report["models"])
        self.assertLess(tuned, plain)
        self.assertLess(plain, 1.2 * original)
        evaluated = json.loads(output[output.index('{\n  "activations"'):output.index("}", output.index('"activations"')) + 1])
        self.assertEqual(evaluated["format"], "nf4")
        self.assertAlmostEqual(evaluated["perplexity"], tuned, delta=1e-3)
        # Half a byte a weight, and scales.
        size = (folder / "out/model.safetensors").stat().st_size
        self.assertLess(size, 0.6 * (folder / "examples/tinystories-656k/model.safetensors").stat().st_size)
        self.assertEqual(self.check_plugins(folder), 5)

    def test_first_day(self):
        """docs/plugin-first-day.md as it stands."""
        folder = self.folder("first-day")
        text = (self.prefix / "share/doc/roundhouse/plugin-first-day.md").read_text()
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
        self.assertGreater(len(blocks), 4)
        output = self.shell("\n".join(blocks), folder)
        self.assertIn("100% tests passed", output)
        tuned = {}
        for data_type in ("shifts", "int"):
            report = json.loads((folder / f"out-{data_type}/roundhouse/report.json").read_text())
            tuned[data_type] = report["models"][-1]["perplexity"]
            self.assertLess(tuned[data_type], report["models"][1]["perplexity"])
        self.assertLess(tuned["int"], tuned["shifts"])
        self.assertLess(tuned["shifts"], 1.1 * tuned["int"])

    def test_in_c(self):
        folder = self.folder("c")
        for kind in ("dtype", "format"):
            self.shell(f"roundhouse new-plugin {kind} {kind}_in_c --language c", folder)
            output = self.build_and_test(f"{kind}_in_c", folder)
            self.assertIn("100% tests passed", output)
            self.assertNotIn("warning", output)
        self.assertEqual(self.check_plugins(folder), 2)
        # Both together: what one emits, the other packs.
        recipe = (folder / "dtype_in_c/build/recipe.yaml").read_text().replace("auto_round", "format_in_c")
        (folder / "recipe.yaml").write_text(recipe)
        plugins = "--plugin-path dtype_in_c/build --plugin-path format_in_c/build"
        self.shell(f"roundhouse {plugins} run recipe.yaml && roundhouse {plugins} verify out", folder)

    def test_flat(self):
        folder = self.folder("flat")
        self.shell('cp -r "$PREFIX/share/roundhouse/examples/plugins/flat" .', folder)
        self.build_and_test("flat", folder)
        self.assertEqual(self.check_plugins(folder), 1)
        verify = "roundhouse --plugin-path flat/build verify --deep flat/build/out"
        self.assertIn("compared with the run", self.shell(verify, folder))
        file = folder / "flat/build/out/model.flat"
        whole = file.read_bytes()
        self.assertLess(len(whole), 0.5 * (self.prefix / "share/roundhouse/examples/tinystories-656k/model.safetensors").stat().st_size)
        for damaged in (whole[:-1], whole[:50], whole[:8] + b"\xff" * 88 + whole[96:]):
            file.write_bytes(damaged)
            self.assertIn("model.flat is damaged or cut off", self.shell(verify, folder, code=1))

    def test_in_rust(self):
        if not shutil.which("rustc"):
            self.skipTest("rustc is not installed")
        folder = self.folder("rust")
        self.shell('cp -r "$PREFIX/share/roundhouse/examples/plugins/ternary" .', folder)
        # The compiler itself: rustup's `rustc` finds it by HOME.
        rustc = run(["rustc", "--print", "sysroot"]).stdout.strip() + "/bin/rustc"
        self.shell(f"cmake -S ternary -B ternary/build -DCMAKE_PREFIX_PATH=$PREFIX -DRUSTC={rustc}", folder)
        output = self.shell("cmake --build ternary/build && ctest --test-dir ternary/build --output-on-failure", folder)
        self.assertIn("100% tests passed", output)
        self.assertEqual(self.check_plugins(folder), 1)

    @unittest.skipUnless(yaml, "this Python has no package yaml")
    def test_workflow(self):
        """The steps of a new project's CI, but for those that need the network."""
        folder = self.folder("workflow")
        self.shell("roundhouse new-plugin dtype my_type --dir project", folder)
        project = folder / "project"
        jobs = yaml.safe_load((project / ".github/workflows/build.yml").read_text())["jobs"]
        job, release = jobs["build"], jobs["release"]
        self.assertEqual(job["permissions"], {"contents": "read"})
        self.assertEqual((release["needs"], release["if"]), ("build", "startsWith(github.ref, 'refs/tags/v')"))
        steps = {step["name"]: step["run"] for step in job["steps"] + release["steps"] if "run" in step}
        self.assertEqual(list(steps), ["install", "build", "validate", "package", "release"])
        for script in steps.values():
            self.shell(f"bash -n <<'END'\n{script}\nEND", folder)
        for name in ("build", "validate", "package"):
            output = self.shell(f'export CMAKE_PREFIX_PATH="$PREFIX"\n{steps[name]}', project)
            if name == "validate":
                self.assertIn("100% tests passed", output)
        uploaded = {step.get("with", {}).get("path") for step in job["steps"]}
        self.assertIn("dist/", uploaded)
        files = sorted(path.name for path in (project / "dist").iterdir())
        machine = self.shell("dpkg --print-architecture", folder).strip()
        package = f"roundhouse-dtype-my-type_0.1.0_{machine}.deb"
        self.assertEqual(files, ["SHA256SUMS", "librh_dtype_my_type.so", package])
        self.assertIn("OK", self.shell("sha256sum --check SHA256SUMS", project / "dist"))
        self.assertRegex(self.shell(f"dpkg-deb --field {package} Depends", project / "dist"), r"\broundhouse-abi-1\b")
        self.assertIn(" ./usr/lib/roundhouse/plugins/librh_dtype_my_type.so\n",
                      self.shell(f"dpkg-deb --contents {package}", project / "dist"))

    def test_new_plugin_says_what_is_wrong(self):
        folder = self.folder("wrong")
        (folder / "there").mkdir()
        for words, message in (("dtype 4bit", '"4bit" cannot be a plugin\'s name'),
                               ("dtype My-type", "small letters, digits and _ alone"),
                               ("dtype ../up", "cannot be a plugin's name"),
                               ("dtipe mine", 'no kind of plugin "dtipe" (did you mean dtype?)'),
                               ("dtype mine --language rust", 'no language "rust"'),
                               ("dtype mine --dir there", "there already exists; choose another --dir"),
                               ("dtype mine --dir /proc/nowhere", "cannot write /proc/nowhere")):
            self.assertIn(message, self.shell(f"roundhouse new-plugin {words}", folder, code=1))
        self.assertEqual([path.name for path in folder.iterdir()], ["there"])

    def test_files_that_are_no_plugins(self):
        """Each gets a line with its path and the reason; the rest keeps working."""
        folder = self.folder("plugins")
        good = (self.prefix / "lib/roundhouse/plugins/librh_format_fake.so").read_bytes()
        (folder / "librh_format_fake.so").write_bytes(good)
        (folder / "librh_a_text.so").write_text("not a plugin")
        (folder / "librh_cut_off.so").write_bytes(good[:5000])
        (folder / "librh_other_machine.so").write_bytes(good[:18] + b"\xb7\x00" + good[20:])
        for name, source in (("no_entry", "int x(void) { return 0; }"),
                             ("missing_library", "int absent(void); const void *rh_get_entry(void) { absent(); return 0; }"),
                             ("newer_major", """
                                #include <roundhouse/entry.h>
                                static const rh_entry entry = {sizeof(rh_entry), RH_ABI_MAJOR + 1, 0};
                                const rh_entry *rh_get_entry(void) { return &entry; }""")):
            (folder / f"{name}.c").write_text(source)
            self.shell(f'cc -shared -fPIC -I"$PREFIX/include" {name}.c -o librh_{name}.so', folder)
        listed = self.shell("roundhouse --plugin-path . plugins list", folder).splitlines()
        for name, reason in (("a_text", "is not an ELF file"),
                             ("cut_off", "is cut off: the file has only 5000 bytes"),
                             ("other_machine", "was built for another machine (AArch64)"),
                             ("no_entry", "has no symbol rh_get_entry"),
                             ("missing_library", "undefined symbol: absent"),
                             ("newer_major", "abi_major is 2 in")):
            lines = [line for line in listed if line.endswith(f"librh_{name}.so")]
            self.assertEqual(len(lines), 1, "\n".join(listed))
            self.assertIn(reason, lines[0])
        formats = self.shell("ROUNDHOUSE_PLUGIN_PATH=. roundhouse formats", folder)
        self.assertEqual([line.split()[0] for line in formats.splitlines() if line.endswith(".so")], ["fake"])

    def test_without_libtorch(self):
        torch = self.prefix / "lib/roundhouse/torch"
        torch.rename(self.top / "torch")
        try:
            output = self.shell("roundhouse --version", self.top, code=1)
        finally:
            (self.top / "torch").rename(torch)
        self.assertRegex(output, r"^error: [^\n]*pip install torch==[^\n]*/lib/roundhouse/torch\n$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + REST)
