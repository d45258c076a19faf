#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps the C ABI of sdk/include/roundhouse as it was published; docs/abi.md says what that means.

    guard.py check      compares the headers with every frozen version beside this file
    guard.py freeze     freezes the headers under the version that RH_SDK_VERSION says: 1.0-draft, 1.0, 1.1, ...
    guard.py plugin FILE...
                        looks at what built plugins export and need

Needs a C compiler, a C++ compiler, binutils, and abidw and abidiff of libabigail.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from headers import FROZEN, Headers

HERE = pathlib.Path(__file__).resolve().parent
INCLUDE = HERE.parent / "include"
# They say which version this is, so they differ between versions.
VERSIONS = {"RH_ABI_MINOR", "RH_SDK_VERSION"}
WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Wpadded", "-Werror"]


class Problem(Exception):
    pass


def run(command, source=None):
    done = subprocess.run([str(word) for word in command], input=source, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def compiler(cxx=False):
    return os.environ.get("CXX", "c++") if cxx else os.environ.get("CC", "cc")


def includes(headers):
    return "".join(f"#include <roundhouse/{name}>\n" for name in headers.text)


# ---- each header compiles alone, in every standard that vendors use ----

def check_compiles(headers):
    use = "int has(const rh_quantizer *q) { return RH_HAS(q, destroy) && RH_KNOWS(q, reserved); }\n"
    units = [f"#include <roundhouse/{name}>\nextern int unit;\n" for name in headers.text]
    for language, standards in (("c", ["c11"]), ("c++", ["c++11", "c++14", "c++17", "c++20"])):
        for standard in standards:
            for unit in [includes(headers) + "int has(const rh_quantizer *q);\n" + use] + (units if standard == "c11" else []):
                command = [compiler(language == "c++"), "-x", language, f"-std={standard}", *WARNINGS, "-I", headers.root,
                           "-fsyntax-only", "-"]
                code, _, errors = run(command, unit)
                if code:
                    first = next((line for line in errors.splitlines() if "error:" in line), errors.strip())
                    yield f"does not compile as {standard}: {first}"
                    return
    # Helpers in C may have padding.
    for name in headers.helpers:
        code, _, errors = run([compiler(), "-x", "c", "-std=c11", *(set(WARNINGS) - {"-Wpadded"}), "-I", headers.root,
                               "-fsyntax-only", "-"], f"#include <roundhouse/{name}>\nextern int unit;\n")
        if code:
            yield f"{name} does not compile as c11: {errors.strip().splitlines()[0]}"


# ---- layout: struct, member, offset, size; constants ----

def layout(headers):
    """The text of layout.txt, from a program that is compiled against the headers."""
    lines = [includes(headers) + "#include <stdio.h>\nint main(void) {\n"]
    for name, struct in headers.structs.items():
        frozen = " frozen" if name in FROZEN else ""
        lines.append(f'  printf("{name} %zu{frozen}\\n", sizeof({name}));\n')
        for member in struct.members:
            place = f"offsetof({name}, {member.name}), sizeof((({name} *)0)->{member.name})"
            lines.append(f'  printf("  {member.name} %zu %zu\\n", {place});\n')
    lines.append("  return 0;\n}\n")
    with tempfile.TemporaryDirectory() as folder:
        include = headers.without_asserts(folder).root
        code, _, errors = run([compiler(), "-x", "c", "-std=c11", "-I", include, "-o", f"{folder}/layout", "-"],
                              "".join(lines))
        if code:
            raise Problem(f"no layout: {errors.strip()}")
        _, text, _ = run([f"{folder}/layout"])
    constants = [f"{name} = {value}\n" for name, value in headers.constants.items() if name not in VERSIONS]
    return ("# struct and its size; member, offset, size; constant = value. Written by guard.py freeze.\n" + text +
            "".join(constants))


def parse_layout(text):
    """{struct: [its line's words, [member lines]]}, {constant: value}"""
    structs, constants = {}, {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if " = " in line:
            name, value = line.split(" = ")
            constants[name] = value
        elif line.startswith("  "):
            structs[name][1].append(line.strip())
        else:
            name = line.split()[0]
            structs[name] = (line.split(), [])
    return structs, constants


def compare_layout(old_text, new_text):
    """(what is broken, what is added), a line each."""
    (old, old_constants), (new, new_constants) = parse_layout(old_text), parse_layout(new_text)
    broken, added = [], []
    for name, (words, members) in old.items():
        if name not in new:
            broken.append(f"{name} is gone")
            continue
        now_words, now = new[name]
        for i, line in enumerate(members):
            if i >= len(now) or now[i] != line:
                broken.append(f"{name}: member, offset and size were \"{line}\", and are "
                              f"\"{now[i] if i < len(now) else 'gone'}\"")
                break
        else:
            if "frozen" in words and now_words != words:
                broken.append(f"{name} is frozen with {words[1]} bytes, and has {now_words[1]}")
            elif "frozen" in now_words and now_words != words:
                broken.append(f"{name} is growable, and is called frozen")
            added += [f"{name}.{line.split()[0]}" for line in now[len(members):]]
    for name, value in old_constants.items():
        if new_constants.get(name) != value:
            broken.append(f"{name} was {value}, and is {new_constants.get(name, 'gone')}")
    added += [name for name in new if name not in old] + [name for name in new_constants if name not in old_constants]
    return broken, added


# ---- types: a shared object that names every one of them, seen by libabigail ----

def build_probe(headers, structs, path, flags=("-g",)):
    """A shared object with one function for each of `structs`; raises Problem without debug information."""
    source = includes(headers) + "const rh_entry *rh_get_entry(void) { return NULL; }\n"
    source += "".join(f"void probe_{name}(const {name} *p) {{ (void)p; }}\n" for name in structs)
    code, _, errors = run([compiler(), "-x", "c", "-std=c11", *flags, "-fPIC", "-shared", "-nostdlib", "-I",
                           headers.root, "-o", path, "-"], source)
    if code:
        raise Problem(f"no probe: {errors.strip()}")
    if ".debug_info" not in run(["readelf", "-SW", path])[1]:
        raise Problem("the probe has no .debug_info, so abidiff would find nothing")


def compare_types(frozen, headers, flags=("-g",)):
    """What abidiff says of the headers as of the frozen version's minor."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            build_probe(headers.without_asserts(folder / "view", frozen.minor), frozen.structs, folder / "probe.so", flags)
        except Problem as problem:
            yield str(problem)
            return
        code, report, errors = run(["abidiff", "--no-added-syms", frozen.root / "abi.abixml", folder / "probe.so"])
        if code:
            lines = [line.strip() for line in report.splitlines() if re.search(r" at |from '|size changed|removed", line)]
            yield f"abidiff exits {code}: " + ("; ".join(lines[:3]) or (report + errors).strip())


# ---- built plugins ----

# What a plugin must not share with its host: versions of it differ, and two in one process collide.
FOREIGN = re.compile(r"torch|c10|stdc\+\+|gomp|omp\b")


def exports(headers):
    return "".join(f"{name}\n" for text in headers.text.values() for name in
                   re.findall(r"^RH_EXTERN_C RH_EXPORT .*?\b(rh_\w+)\(", text, re.M))


def check_plugin(path, wanted):
    """What is wrong with a plugin's dynamic symbols; `wanted` is the text of exports.txt."""
    code, symbols, errors = run(["nm", "-D", "--defined-only", "--format=just-symbols", path])
    if code:
        yield f"{path}: {errors.strip()}"
    elif symbols != wanted:
        yield f"{path} exports {symbols.split()}, not {wanted.split()}"
    for library in re.findall(r"\(NEEDED\).*\[(.*)\]", run(["readelf", "-dW", path])[1]):
        if FOREIGN.search(library):
            yield f"{path} needs {library}"


# ---- the whole check ----

def frozen_versions(folder=HERE):
    """Headers of all frozen versions, oldest first."""
    found = [Headers(path.parent) for path in folder.glob("*/layout.txt")]
    return sorted(found, key=lambda headers: headers.minor)


def check(include=INCLUDE, versions=None):
    """(problems, what a new minor adds), a line each."""
    headers = Headers(include)
    versions = frozen_versions() if versions is None else versions
    problems = [*headers.lint(), *check_compiles(headers)]
    try:
        now = layout(headers)
    except Problem as problem:
        return problems + [str(problem)], []
    added = []
    for frozen in versions:
        if exports(headers) != (frozen.root / "exports.txt").read_text():
            problems.append(f"{frozen.root.name} has other exported functions than {exports(headers).split()}")
        broken, added = compare_layout((frozen.root / "layout.txt").read_text(), now)
        problems += [f"breaks {frozen.root.name}: {line}" for line in [*broken, *compare_types(frozen, headers)]]
    if versions and added and headers.minor == versions[-1].minor:
        problems.append(f"RH_ABI_MINOR is still {headers.minor}, but there is more than in {versions[-1].root.name}: "
                        + ", ".join(added))
    if versions and headers.minor < versions[-1].minor:
        problems.append(f"RH_ABI_MINOR is {headers.minor}, less than in {versions[-1].root.name}")
    return problems, added


def freeze(include=INCLUDE, folder=HERE):
    """Writes the headers' version under `folder`. Raises Problem when it is published, or breaks one that is."""
    headers = Headers(include)
    published = [v for v in frozen_versions(folder) if not v.version.endswith("-draft")]
    if headers.version in [v.version for v in published]:
        raise Problem(f"{headers.version} is published; raise RH_ABI_MINOR and RH_SDK_VERSION in abi.h for the next one")
    problems, _ = check(include, published)
    if problems:
        raise Problem("\n".join(problems))
    for draft in folder.glob("*-draft"):
        shutil.rmtree(draft)
    target = folder / headers.version
    shutil.copytree(headers.root / "roundhouse", target / "roundhouse", ignore=shutil.ignore_patterns("*.md"))
    (target / "layout.txt").write_text(layout(headers))
    (target / "exports.txt").write_text(exports(headers))
    with tempfile.TemporaryDirectory() as scratch:
        build_probe(headers, headers.structs, f"{scratch}/probe.so")
        code, _, errors = run(["abidw", "--no-show-locs", "--no-comp-dir-path", "--no-corpus-path", "--out-file",
                               target / "abi.abixml", f"{scratch}/probe.so"])
        if code:
            raise Problem(f"abidw: {errors}")
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "freeze", "plugin"])
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()
    try:
        if arguments.command == "freeze":
            print(f"frozen in {freeze()}; git diff shows what has changed")
            return 0
        if arguments.command == "plugin":
            wanted = (frozen_versions()[-1].root / "exports.txt").read_text()
            problems = [line for file in arguments.files for line in check_plugin(file, wanted)]
            if problems or not arguments.files:
                raise Problem("\n".join(problems) or "no plugin was given")
            print(f"{len(arguments.files)} plugins export one function and need no library of the host's")
            return 0
        problems, added = check()
        for line in added:
            print(f"minor: adds {line}")
        if problems:
            raise Problem("\n".join(problems))
        print("the ABI is as published" if not added else "a minor: publish it with guard.py freeze")
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
