# SPDX-License-Identifier: Apache-2.0
"""The ABI is C's: a data type in another language, with bindings of its own, keeps every rule and quantizes a model; the bindings
name the members that the frozen layout of 1.0 has.

    test_languages.py rust|zig BUILD      (exits with 77 where there is no compiler)
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
language, build = sys.argv[1], pathlib.Path(sys.argv[2])


def structs_of_layout():
    """Of each struct of ABI 1.0 its size and members, in order."""
    structs = {}
    for line in sorted((SOURCE / "sdk/abi").glob("*/layout.txt"))[0].read_text().splitlines():
        if match := re.match(r"rh_(\w+) (\d+)", line):
            members = structs.setdefault(match[1].replace("_", ""), (int(match[2]), []))[1]
        elif match := re.match(r"  (\w+) \d+ \d+$", line):
            members.append(match[1])
    return structs


def check_bindings(file, struct):
    """struct: a pattern with a struct's name, its size or nothing, and its members."""
    layout, found = structs_of_layout(), re.findall(struct, file.read_text(), re.S | re.M)
    assert len(found) >= 15, f"only {len(found)} structs were read in {file}"
    for name, size, body in found:
        members = re.findall(r"(?:^|,)\s*(?:r#)?(\w+): ", re.sub(r"\([^()]*\)", "", body))
        expected = layout[name.lower()]
        assert members == expected[1] and size in ("", str(expected[0])), \
            f"{name} is {size} {members}, but the headers say {expected}"


def run(*command, cwd=None):
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


name, compiler, bindings, struct, arguments = {
    "rust": ("ternary", "rustc", "abi.rs", r"^    (\w+) = (\d+) \{(.*?),\s*\}\n",
             ("--edition", "2021", "--crate-type", "cdylib", "-O", "-D", "warnings", "{source}", "-o", "{plugin}")),
    "zig": ("absmax", "zig", "abi.zig", r"^pub const (\w+) = extern struct \{()(.*?),?\s*\};\n",
            ("build-lib", "-dynamic", "-O", "ReleaseSafe", "-lc", "{source}", "-femit-bin={plugin}")),
}[language]
example = SOURCE / "sdk/examples" / name
check_bindings(example / bindings, struct)
if not shutil.which(compiler):
    print(f"skipped: {compiler} is not installed")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    plugin = pathlib.Path(folder) / f"librh_dtype_{name}.so"
    source, = set(example.glob(f"{name}.*"))
    run(compiler, *(word.format(source=source, plugin=plugin) for word in arguments), cwd=folder)
    run(sys.executable, SOURCE / "sdk/abi/guard.py", "plugin", plugin)
    print(run(build / "bin/roundhouse-validate", plugin).splitlines()[-1])
    recipe = (example / "test.yaml").read_text().replace("@Roundhouse_EXAMPLES@", str(SOURCE / "configs/examples"))
    (pathlib.Path(folder) / "recipe.yaml").write_text(recipe)
    run(build / "bin/roundhouse", "--plugin", plugin, "run", "recipe.yaml", cwd=folder)
    output = run(build / "bin/roundhouse", "--plugin", plugin, "verify", "--deep", "out/auto_gptq", cwd=folder)
    assert "compared with the run" in output, output
