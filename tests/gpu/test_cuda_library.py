#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far a run on a GPU comes without one: an installed program loads the CUDA half of a torch that pip has installed.

    tests/gpu/test_cuda_library.py BUILD FOLDER      (downloads 2.2 GB into FOLDER, 3.7 GB unpacked; kept)

Three ways to find it: ROUNDHOUSE_TORCH, none, and a folder that is not the torch that the program is built with. With a
driver the first goes further, to the driver's own words or a run.
"""

import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    build, folder = (pathlib.Path(word).resolve() for word in sys.argv[1:])
    python = folder / "venv/bin/python"
    if not (folder / "installed").exists():
        begin = time.monotonic()
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "-r", ROOT / "host/cmake/libtorch.txt", "-r", ROOT / "host/cmake/cuda_libraries.txt"],
                       check=True)
        (folder / "installed").touch()
        print(f"installed in {time.monotonic() - begin:.0f} s", flush=True)
    subprocess.run(["cmake", "--install", build, "--prefix", folder / "prefix"], check=True, stdout=subprocess.DEVNULL)
    torch, = (folder / "venv/lib").glob("python3*/site-packages/torch")
    stranger = folder / "stranger"
    stranger.mkdir(exist_ok=True)
    (stranger / "version.py").write_text("__version__ = '2.9.1+cu128'\n")
    version = re.search(r"^torch==(\S+)$", (ROOT / "host/cmake/libtorch.txt").read_text(), re.M)[1]
    no_driver = not (os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg"))

    failures = 0
    for torch_folder, expected in ((torch, "no NVIDIA driver is loaded" if no_driver else ""),
                                   (None, f"has no CUDA library (libtorch_cuda.so): install torch=={version}" if no_driver else ""),
                                   (stranger, f"is torch 2.9.1: install torch=={version}"),
                                   (folder, f"is no torch folder: install torch=={version}")):
        environment = {name: value for name, value in os.environ.items() if name not in ("ROUNDHOUSE_TORCH", "LD_LIBRARY_PATH")}
        if torch_folder:
            environment["ROUNDHOUSE_TORCH"] = str(torch_folder)
        done = subprocess.run([folder / "prefix/bin/roundhouse", "run", folder / "prefix/share/roundhouse/recipes/quickstart.yaml",
                               "--set", "device=cuda", "--set", f"output={folder / 'out'}", "--overwrite"],
                              env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = done.stdout.strip().splitlines()[-1]
        runs = not no_driver and torch_folder in (torch, None)
        passed = (done.returncode == 0) == runs and expected in done.stdout
        failures += not passed
        print(f"{'passed' if passed else 'FAILED'}: {torch_folder or 'no torch'}: {said}", flush=True)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
