# SPDX-License-Identifier: Apache-2.0
"""What the interop tests share: running the program that was built, and comparing tensors."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = SOURCE / "configs" / "examples"
DATA = SOURCE / "tests" / "data"


LAUNCHER = []  # what stands before the program


def has_mpi():
    """Whether the program was built with MPI, whose launcher works here."""
    library = pathlib.Path(os.environ["ROUNDHOUSE"]).parents[1] / "lib/roundhouse/libroundhouse_mpi.so"
    if not library.exists() or not shutil.which("mpirun"):
        return False
    with ranks(2):
        return subprocess.run([*LAUNCHER, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


@contextlib.contextmanager
def ranks(number):
    """Within it, the program is started as so many processes of one run. The variables are Open MPI's."""
    os.environ.update(OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none",
                      OMPI_MCA_btl_vader_backing_directory="/tmp", OMPI_MCA_btl_vader_single_copy_mechanism="none",
                      OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    LAUNCHER[:] = ["mpirun", "-n", str(number)]
    try:
        yield
    finally:
        LAUNCHER.clear()


def roundhouse(*arguments):
    """Runs the program under test; its output is part of the failure."""
    command = [*LAUNCHER, os.environ["ROUNDHOUSE"], *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, f"{' '.join(command)}\nexit code {result.returncode}\n{result.stdout}"


def export(folder, **recipe):
    """Runs a recipe given as keywords, and returns the output folder."""
    folder = pathlib.Path(folder)
    recipe = {"version": 1, "output": str(folder / "out"), "device": "cpu", **recipe}
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe))  # JSON is YAML
    roundhouse("run", file)
    return folder / "out"


def tensor_difference(ours, expected):
    """Every difference in names, data types, shapes and bits of two {name: tensor}, one a line; "" if there is none."""
    import torch  # here, since not every engine's environment has it

    lines = [f"missing: {name}" for name in sorted(expected.keys() - ours.keys())]
    lines += [f"not expected: {name}" for name in sorted(ours.keys() - expected.keys())]
    for name in sorted(ours.keys() & expected.keys()):
        a, b = ours[name], expected[name]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            lines.append(f"{name}: {a.dtype} {list(a.shape)}, expected {b.dtype} {list(b.shape)}")
            continue
        different = (a.reshape(-1).view(torch.uint8) != b.reshape(-1).view(torch.uint8)).reshape(a.numel(), -1).any(1)
        if different.any():
            first = int(different.nonzero()[0])
            lines.append(f"{name}: {int(different.sum())} of {a.numel()} elements differ, the first at {first}: "
                         f"{a.reshape(-1)[first].item()}, expected {b.reshape(-1)[first].item()}")
    return "\n".join(lines)


def read_json(file):
    return json.loads(pathlib.Path(file).read_text())


def write_json(file, value):
    pathlib.Path(file).write_text(json.dumps(value))
