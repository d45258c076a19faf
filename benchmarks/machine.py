# SPDX-License-Identifier: Apache-2.0
"""What a benchmark ran on."""

import os
import pathlib
import platform
import re
import shutil
import subprocess
from importlib import metadata

import sides

INSTRUCTION_SETS = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "neon", "sve"]


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def git(*arguments):
    return output("git", "-C", sides.REPOSITORY, *arguments) if shutil.which("git") else ""


def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    fields = dict(re.findall(r"^(\S[^\t:]*?)\s*: (.*)$", info, re.MULTILINE))
    flags = fields.get("flags", fields.get("Features", "")).split()
    siblings = pathlib.Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) * 1024
    gpu = output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") if shutil.which("nvidia-smi") else None
    return {
        "cpu": fields.get("model name", platform.machine()),
        "cpu_family_model": f"{fields.get('cpu family')}/{fields.get('model')}",
        "processors": len(os.sched_getaffinity(0)),
        "threads_of_first_core": siblings.read_text().strip() if siblings.exists() else None,
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "memory_bytes": memory,
        "gpu": gpu,
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("auto-round", "torch", "transformers")},
    }


def commit():
    """Of the working tree; "+" where it differs from it."""
    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
