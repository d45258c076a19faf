# SPDX-License-Identifier: Apache-2.0
"""The lines and branches that ran in a build with the preset `coverage`, by folder, as a Markdown table.

    python tests/coverage/table.py BUILD      (needs gcovr: requirements.txt)

Branches that only an exception takes are left out, as are those in system headers. What a process that is killed or ends by _exit()
has run is not counted.
"""
import collections
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ["host", "plugins", "kernels", "sdk/include", "validator"]


def percent(covered, total):
    return f"{100 * covered / total:.1f} %" if total else ""


def main():
    summary = subprocess.run(
        [sys.executable, "-m", "gcovr", "--root", ROOT, "--object-directory", sys.argv[1], "--exclude-throw-branches",
         "--exclude-unreachable-branches", "--gcov-ignore-parse-errors=all", "--gcov-ignore-errors=all",
         "--merge-mode-functions=merge-use-line-min", *(f"--filter={ROOT / folder}/" for folder in FOLDERS), "--json-summary", "-"],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    counts = collections.defaultdict(collections.Counter)
    for file in json.loads(summary)["files"]:
        parts = pathlib.Path(file["filename"]).parent.parts
        for folder in ("/".join(parts[:3 if parts[0] == "plugins" else 2]), "all"):
            counts[folder].update({key: file[key] for key in ("line_total", "line_covered", "branch_total", "branch_covered")})
    print("| folder | lines | of | branches | of |\n| --- | --- | --- | --- | --- |")
    for folder, count in sorted(counts.items(), key=lambda item: (item[0] == "all", item[0])):
        print(f"| {folder if folder == 'all' else f'`{folder}`'} | {percent(count['line_covered'], count['line_total'])} | {count['line_total']} "
              f"| {percent(count['branch_covered'], count['branch_total'])} | {count['branch_total']} |")


if __name__ == "__main__":
    main()
