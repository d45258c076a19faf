#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# packaging/test_wheel.sh WHEEL REQUIREMENTS: installs the wheel into an empty virtual environment, with the packages of torch
# that the file of requirements names and without what else torch asks for; runs the quickstart; and builds a plugin against
# the SDK in it, which must work in the program in it, from its build folder and as a wheel of its own.
set -euo pipefail
wheel=$(realpath "$1")
requirements=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r "$requirements" "$wheel" scikit-build-core packaging pathspec
export PATH=$work/venv/bin:$PATH XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data
unset LD_LIBRARY_PATH

roundhouse doctor
recipes=$(roundhouse sdk)/share/roundhouse/recipes
roundhouse run "$recipes/quickstart.yaml" --set output=quickstart | tee run.txt
grep -q 'tuned, auto_gptq' run.txt
python -m roundhouse verify quickstart/auto_round

roundhouse new-plugin dtype thirds
cmake -S thirds -B thirds/build -DRoundhouse_DIR="$(roundhouse sdk --cmake-dir)" > /dev/null
cmake --build thirds/build > /dev/null
ctest --test-dir thirds/build --output-on-failure
roundhouse-validate thirds/build/librh_dtype_thirds.so | tail -n 1
roundhouse --plugin-path thirds/build run "$recipes/quickstart.yaml" --set output=thirds-out --set scheme='{data_type: thirds}' \
  --set tuning.iters=2 --set formats='[fake]'
pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir wheels ./thirds \
  -C cmake.define.Roundhouse_DIR="$(roundhouse sdk --cmake-dir)"
pip install --quiet --disable-pip-version-check --no-deps wheels/*.whl
roundhouse dtypes | grep -q '^thirds '
pip uninstall --quiet --yes roundhouse-dtype-thirds
roundhouse dtypes > left.txt
! grep '^thirds ' left.txt || exit 1
echo "the wheel works"
