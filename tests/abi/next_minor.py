# SPDX-License-Identifier: Apache-2.0
"""Simulates the next minor of the SDK: every growable struct gets a text and an optional function at its end."""
import pathlib
import re
import shutil
import sys

MEMBERS = """  const char *added_text; /* since 1.{minor} */
  /* Returns {minor}, to whoever asks. Optional. [thread-safe] since 1.{minor} */
  int32_t (*added_call)(void);
  /* end of 1.{minor}: do not modify above */
}} {name};
RH_ASSERT_END({name}, {last}, {bytes});
RH_ASSERT_END({name}, added_call, {grown});
"""


def write_next_minor(include, target):
    """Reads include/roundhouse, writes target/roundhouse."""
    include, target = pathlib.Path(include), pathlib.Path(target)
    shutil.copytree(include / "roundhouse", target / "roundhouse", dirs_exist_ok=True, copy_function=shutil.copyfile)
    abi = (include / "roundhouse/abi.h").read_text()
    minor = int(re.search(r"#define RH_ABI_MINOR (\d+)", abi).group(1)) + 1

    def grow(found):
        name, last, size = found.groups()
        return MEMBERS.format(minor=minor, name=name, last=last, bytes=size, grown=int(size) + 16)

    for header in (target / "roundhouse").rglob("*.h"):
        text = re.sub(r"\} \w+;\nRH_ASSERT_END\((\w+), (\w+), (\d+)\);\n", grow, header.read_text())
        if header.name == "abi.h":
            text = re.sub(r"#define RH_ABI_MINOR \d+", f"#define RH_ABI_MINOR {minor}\n#define RH_SIMULATED_MINOR 1", text)
            text = re.sub(r'#define RH_SDK_VERSION ".*"', f'#define RH_SDK_VERSION "1.{minor}"', text)
        header.write_text(text)


if __name__ == "__main__":
    write_next_minor(*sys.argv[1:])
