#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/families.md, and in README.md their counts and a table of them, relatives in one row: the families that are
described, and how far their logits are from transformers'.

    benchmarks/families.py --decoder-test build/bin/decoder_test    measures (after `ctest -R make_models`) and writes
    benchmarks/families.py --check                                  fails where the page and the descriptors name others
"""
import argparse
import collections
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "families.md"
README = ROOT / "README.md"
HEAD = """# Families

Families of models that are tuned, each a description in [configs/architectures](../configs/architectures). `{script}` writes this page. "Largest
difference" is that of any logit, in float32, between Roundhouse and transformers 5.23.0 over all tiny random models of the family that
[tests/model](../tests/model) makes, whose logits are about 1 to 10; `make test` allows 1e-4. "GGUF": the format `gguf` writes it for llama.cpp, but for what llama.cpp would compute
otherwise ([formats.md](formats.md#gguf)). Families that are not here are
[rounded without tuning](recipes.md#any-family).

| family | `model_type` | GGUF | models tested | largest difference |
| --- | --- | --- | --- | --- |
"""


def described():
    """{family: (its model_types, whether gguf has its names)}"""
    families = {}
    for file in sorted((ROOT / "configs" / "architectures").glob("*.yaml")):
        text = file.read_text()
        if re.search(r"^block:", text, re.M) is None:
            continue  # the generic one
        types = re.search(r"^model_types: \[(.*?)\]", text, re.M | re.S)[1]
        refused = re.search(r"^      - \{reason:", text, re.M) is not None
        gguf = re.search(r"^  gguf:", text, re.M) is not None and not refused
        families[re.search(r"^family: (\S+)", text, re.M)[1]] = ([t.strip() for t in types.split(",")], gguf)
    return families


def page_rows():
    """[(family, whether gguf has its names, models, largest difference)] of the page"""
    rows = re.findall(r"^\| `(\S+)` \| .*? \| (yes|no) \| (\d+) \| (\S+) \|$", PAGE.read_text(), re.M)
    return [(family, gguf == "yes", int(models), difference) for family, gguf, models, difference in rows]


def counted(rows):
    """The README's sentence."""
    largest = max((difference for _, _, _, difference in rows), key=float)
    return (f"Models: {len(rows)} [families](docs/families.md), {sum(models for _, _, models, _ in rows)} tiny models of which have logits within "
            f"{largest} of transformers'; {sum(gguf for _, gguf, _, _ in rows)} of them have GGUF files for llama.cpp. They are")


def table(rows):
    """The README's table: families whose names begin alike are one row."""
    groups = []
    for row in sorted(rows):
        stem = re.match(r"[a-z]+", row[0])[0]
        if groups and stem.startswith(groups[-1][0]):
            groups[-1][1].append(row)
        else:
            groups.append((stem, [row]))
    lines = ["<details><summary>All families</summary>\n\n",
             "| families | GGUF | tiny models | largest difference of a logit |\n| --- | --- | --- | --- |\n"]
    for _, members in groups:
        without = [f"`{family}`" for family, gguf, _, _ in members if not gguf]
        gguf = "yes" if not without else "no" if len(without) == len(members) else f"all but {', '.join(without)}"
        lines.append(f"| {', '.join(f'`{family}`' for family, _, _, _ in members)} | {gguf} | {sum(row[2] for row in members)} | "
                     f"{max((row[3] for row in members), key=float)} |\n")
    return "".join(lines) + "\n</details>"


def measured(program):
    """{family: the differences of its models}"""
    out = subprocess.run([program, "--gtest_filter=Families.LogitsEqualTransformers"], capture_output=True, text=True, check=True)
    differences = collections.defaultdict(list)
    for family, difference in re.findall(r"^largest logit difference of (\S+): (\S+)$", out.stdout, re.M):
        differences[family].append(float(difference))
    return differences


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--decoder-test", type=pathlib.Path)
    options.add_argument("--check", action="store_true")
    arguments = options.parse_args()
    families = described()
    if arguments.check:
        rows = re.findall(r"^\| `(\S+)` \| (.*?) \| (yes|no) \|", PAGE.read_text(), re.M)
        there = {family: (types.replace("`", "").split(", "), gguf == "yes") for family, types, gguf in rows}
        if there != families:
            different = sorted(f for f in families.keys() | there.keys() if families.get(f) != there.get(f))
            sys.exit(f"docs/families.md is not as configs/architectures says for {', '.join(different)}: run benchmarks/families.py")
        for text in (counted(page_rows()), table(page_rows())):
            if text not in README.read_text():
                sys.exit(f"README.md does not say: {text}")
        return
    differences = measured(arguments.decoder_test)
    lines = [HEAD.format(script="benchmarks/families.py")]
    for family, (types, gguf) in families.items():
        found = differences.get(family, [])
        largest = f"{max(found):.1e}" if found else "not tested"
        lines.append(f"| `{family}` | {', '.join(f'`{t}`' for t in types)} | {'yes' if gguf else 'no'} | {len(found)} | {largest} |\n")
    PAGE.write_text("".join(lines))
    rows, readme = page_rows(), README.read_text()
    readme = re.sub(r"^Models: .* They are$", counted(rows), readme, flags=re.M)
    README.write_text(re.sub(r"<details><summary>All families.*?</details>", table(rows), readme, flags=re.S))


main()
