# SPDX-License-Identifier: Apache-2.0
"""The ABI is C's: a data type in Rust (sdk/examples/ternary), with bindings of its own, keeps every rule and quantizes a model.
Its bindings name the members that the frozen layout of 1.0 has. Exits with 77 where there is no rustc."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = SOURCE / "sdk/examples/ternary"
build = pathlib.Path(sys.argv[1])


def structs_of_layout():
    """Of each struct of ABI 1.0 its size and members, in order."""
    structs = {}
    for line in sorted((SOURCE / "sdk/abi").glob("*/layout.txt"))[0].read_text().splitlines():
        if match := re.match(r"rh_(\w+) (\d+)", line):
            members = structs.setdefault(match[1].replace("_", ""), (int(match[2]), []))[1]
        elif match := re.match(r"  (\w+) \d+ \d+$", line):
            members.append(match[1])
    return structs


def check_bindings():
    layout, checked = structs_of_layout(), 0
    text = (EXAMPLE / "abi.rs").read_text()
    text = text[text.index("\nstructs! {"):]
    for name, size, body in re.findall(r"^    (\w+) = (\d+) \{(.*?),\s*\}\n", text, re.S | re.M):
        members = re.findall(r"(?:^|,)\s*(?:r#)?(\w+): ", re.sub(r"\([^()]*\)", "", body))
        expected = layout[name.lower()]
        assert (int(size), members) == expected, f"{name} is {size} {members}, but the headers say {expected}"
        checked += 1
    assert checked == text.count(" = "), "a struct was not read"


def run(*command, cwd=None):
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


check_bindings()
if not shutil.which("rustc"):
    print("skipped: rustc is not installed (Debian: apt install rustc)")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    plugin = pathlib.Path(folder) / "librh_dtype_ternary.so"
    run("rustc", "--edition", "2021", "--crate-type", "cdylib", "-O", "-D", "warnings", EXAMPLE / "ternary.rs", "-o", plugin)
    run(sys.executable, SOURCE / "sdk/abi/guard.py", "plugin", plugin)
    print(run(build / "bin/roundhouse-validate", plugin).splitlines()[-1])
    recipe = (EXAMPLE / "test.yaml").read_text().replace("@Roundhouse_EXAMPLES@", str(SOURCE / "configs/examples"))
    (pathlib.Path(folder) / "recipe.yaml").write_text(recipe)
    run(build / "bin/roundhouse", "--plugin", plugin, "run", "recipe.yaml", cwd=folder)
    output = run(build / "bin/roundhouse", "--plugin", plugin, "verify", "--deep", "out/auto_gptq", cwd=folder)
    assert "compared with the run" in output, output
