# SPDX-License-Identifier: Apache-2.0
# Entry points, for Debian 12 and Ubuntu 24.04 with git, make, python3, and root or sudo:
#   make quickstart   install what is missing, build, quantize the example model. With an NVIDIA driver: also what a run
#                     on the GPU needs (2.5 GB more, nvcc among it); ROUNDHOUSE_CUDA=off: nothing of that
#   make test         build with all tests and run them; make test-fast: two minutes of them; make test-long: what is apart
#                     from them (docs/testing.md has the times)
#   make lint         formatting, phrases, licence lines, clang-tidy, symbols of vector objects; make format: format all C++ files
#   make sanitize     the tests that need no libtorch, under AddressSanitizer and UndefinedBehaviorSanitizer; make
#                     sanitize-fast: those of them that CI runs
#   make coverage     which lines and branches the tests run
#   make fuzz SECONDS=60 [TARGET=gguf]: libFuzzer on tests/fuzz, or on one of them
#   make aarch64      compile for ARM64: kernels, plugins and the validator whole, the host without linking it
#   make test-engines load what the built program exports in llama.cpp, which pip compiles, and in vLLM (slow, 7 GB, apart
#                     from `make test`); `make test-engines-vllm`: one of them
#   make wheel        what pip installs, in build/wheel; make test-wheel installs it and uses it
#   make test-gpu     what only a GPU can show, on a machine with one
#   make test-real    two trained models from PyPI, tuned, and their exports in their engines
# CMakePresets.json says how the build is configured; everything lands in build/.

PACKAGES := build-essential ccache cmake libboost-dev libcli11-dev libonig-dev libspdlog-dev libssl-dev \
  libutf8proc-dev libyaml-cpp-dev ninja-build nlohmann-json3-dev python3-venv
TEST_PACKAGES := abigail-tools libgmock-dev libgtest-dev libopenmpi-dev openmpi-bin

LIBTORCH := host/cmake/libtorch.txt
CUDA_COMPILER := host/cmake/cuda_compiler.txt
CUDA_LIBRARIES := host/cmake/cuda_libraries.txt

VENV := build/venv
# Where a driver is loaded, on Linux and in WSL.
GPU := $(if $(filter off,$(ROUNDHOUSE_CUDA)),,$(firstword $(wildcard /dev/nvidiactl /dev/dxg)))
NVCC := $(firstword $(CUDACXX) $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
LIBRARIES_STAMP := $(VENV)/$(if $(GPU),cuda,libtorch).stamp
CONFIGURE := cmake -D ROUNDHOUSE_CUDA=$(or $(ROUNDHOUSE_CUDA),auto) --preset
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
RESULTS := build/test-results.xml
LINT := build/lint

# $(call install,<packages>): the Debian packages among them that are not there yet.
install = @missing=$$(for package in $(1); do \
    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
  if [ -n "$$missing" ]; then set -x; $(SUDO) apt-get -q update && \
    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends $$missing; fi

ROUNDHOUSE ?= $(CURDIR)/build/bin/roundhouse

# The presets of CMakePresets.json; CI takes `ci`, where a warning is an error.
TEST_PRESET ?= test

.PHONY: quickstart build test test-fast test-long test-real test-build lint format sanitize test-engines aarch64 \
  test-cuda-emulation test-cuda-library test-gpu sanitize-fast test-resume packages test-packages test-faults fuzz \
  wheel test-wheel coverage

quickstart: $(LIBRARIES_STAMP)
	$(CONFIGURE) default
	cmake --build --preset default --target program
	build/bin/roundhouse run configs/recipes/quickstart.yaml --overwrite

build: $(LIBRARIES_STAMP)
	$(CONFIGURE) default
	cmake --build --preset default

test-build: $(VENV)/test.stamp $(LIBRARIES_STAMP)
	$(CONFIGURE) $(TEST_PRESET)
	cmake --build --preset $(TEST_PRESET)

test-fast: TESTS := -L fast
test test-fast: test-build
	@rm -f $(RESULTS)
	@ctest --preset test -j "$$(nproc)" $(TESTS); status=$$?; \
	python3 -c 'import sys, xml.etree.ElementTree as xml; \
	  cases = list(xml.parse(sys.argv[1]).iter("testcase")); \
	  passed = sum(case.get("status") == "run" for case in cases); \
	  skipped = sum(str(getattr(case.find("skipped"), "attrib", "")).count("SKIP_") for case in cases); \
	  print(skipped, "skipped"); \
	  print(passed, "passed,", len(cases) - passed - skipped, "failed")' \
	  $(RESULTS) || exit 1; \
	exit $$status

# The libraries that it links are put into it, but for those of torch, which pip installs beside it.
WHEEL := build/wheel
wheel: $(VENV)/libtorch.stamp $(WHEEL)/tools/installed.stamp
	rm -rf $(WHEEL)/linked $(WHEEL)/*.whl
	PATH=$(CURDIR)/$(WHEEL)/tools/bin:$$PATH python -m pip wheel --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --wheel-dir $(WHEEL)/linked .
	PATH=$(CURDIR)/$(WHEEL)/tools/bin:$$PATH auditwheel repair --wheel-dir $(WHEEL) --exclude libtorch_cpu.so \
	  --exclude libc10.so --exclude libgomp.so.1 $(WHEEL)/linked/*.whl

test-wheel: wheel
	packaging/test_wheel.sh $(WHEEL)/*.whl $(LIBTORCH)

$(WHEEL)/tools/installed.stamp: packaging/requirements.txt
	python3 -m venv $(WHEEL)/tools
	$(WHEEL)/tools/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

lint: $(LINT)/installed.stamp $(VENV)/test.stamp
	$(LINT)/bin/python tests/lint/words.py
	$(LINT)/bin/python tests/lint/licence.py
	$(LINT)/bin/python tests/lint/torch_version.py
	$(LINT)/bin/python tests/lint/format.py
	cmake --preset $(TEST_PRESET)
	cmake --build --preset $(TEST_PRESET) --target kernels_cpu
	$(LINT)/bin/python tests/lint/weak_symbols.py build
	cmake --preset tidy
	$(LINT)/bin/python tests/lint/tidy.py build/tidy

format: $(LINT)/installed.stamp
	$(LINT)/bin/python tests/lint/format.py --fix

# Timed tests are left out (CMakePresets.json).
sanitize: SANITIZED := tests_without_libtorch
sanitize-fast: SANITIZED := tests_of_memory
sanitize sanitize-fast: $(VENV)/test.stamp
	cmake --preset asan
	cmake --build --preset asan --target $(SANITIZED)
	ctest --preset asan -j "$$(nproc)"

aarch64: $(VENV)/libtorch.stamp
	$(call install,g++-aarch64-linux-gnu)
	cmake --preset aarch64
	cmake --build --preset aarch64

$(LINT)/installed.stamp: tests/lint/requirements.txt
	python3 -m venv $(LINT)
	$(LINT)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

test-long: test-engines test-resume test-cuda-emulation sanitize aarch64 test-faults

# The CUDA kernels without a GPU, in the ways that `make test` leaves out.
test-cuda-emulation: test-build
	cmake --build --preset $(TEST_PRESET) --target cuda_emulation
	ctest --preset test -C long -L emulation -j "$$(nproc)"

# What only a GPU can show; needs one, and a torch in build/venv with its CUDA libraries.
test-gpu: test-build
	$(VENV)/bin/python tests/gpu/test_gpu.py

# The way to a GPU without one: an installed program and a torch that pip brings (2.2 GB of downloads).
test-cuda-library: test-build
	$(VENV)/bin/python tests/gpu/test_cuda_library.py build build/cuda_library

# Every system call of a short run fails once, and 300 of its allocations, for every format.
test-faults: test-build
	@running=; for shard in $$(seq 0 $$(($$(nproc) - 1))); do \
	  ROUNDHOUSE_ALL_FAULTS=1 GTEST_TOTAL_SHARDS=$$(nproc) GTEST_SHARD_INDEX=$$shard build/bin/faults_test & \
	  running="$$running $$!"; done; \
	status=0; for one in $$running; do wait $$one || status=1; done; exit $$status

# What it finds belongs into tests/fuzz/found/TARGET, which every build replays.
SECONDS ?= 60
fuzz: $(VENV)/test.stamp
	$(call install,clang)
	cmake --preset fuzz
	cmake --build --preset fuzz --target $(if $(TARGET),fuzz_$(TARGET),fuzz_targets)
	python3 tests/fuzz/table.py build/fuzz $(SECONDS) $(TARGET)

# Lines and branches that the tests run, by folder, for docs/testing.md. A test that is too slow so does not stop it.
coverage: build/coverage/venv/installed.stamp
	cmake --preset coverage
	cmake --build --preset coverage
	find build/coverage -name '*.gcda' -delete
	-ctest --preset coverage -j "$$(nproc)"
	build/coverage/venv/bin/python tests/coverage/table.py build/coverage

build/coverage/venv/installed.stamp: tests/coverage/requirements.txt $(VENV)/test.stamp
	python3 -m venv build/coverage/venv
	build/coverage/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

test-resume:
	ROUNDHOUSE_KILLS=100 build/bin/cli_test --gtest_filter='*Resume.KilledAtRandomTimes*'

test-engines: test-engines-llama_cpp test-engines-vllm

test-engines-%: build/engines/%/installed.stamp
	PYTHONPATH=tests/interop PYTHONDONTWRITEBYTECODE=1 ROUNDHOUSE=$(ROUNDHOUSE) \
	  build/engines/$*/bin/python tests/engines/test_$*.py

test-real: $(VENV)/test.stamp build/engines/llama_cpp/installed.stamp
	ROUNDHOUSE=$(ROUNDHOUSE) $(VENV)/bin/python tests/real/real_models.py build/real \
	  --llama-cpp build/engines/llama_cpp/bin/python

build/engines/%/installed.stamp: tests/engines/requirements-%.txt
	python3 -m venv build/engines/$*
	CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" build/engines/$*/bin/python -m pip \
	  install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

packages:
	$(call install,$(PACKAGES))

test-packages: packages
	$(call install,$(TEST_PACKAGES))

$(VENV)/libtorch.stamp: $(LIBTORCH) | packages
	python3 -m venv $(VENV)
	$(PIP) -r $(LIBTORCH)
	@touch $@

# nvcc from PyPI where none is installed; a run works without it, with the CPU in the plugins' place.
$(VENV)/cuda.stamp: $(CUDA_LIBRARIES) $(CUDA_COMPILER) $(VENV)/libtorch.stamp
	$(PIP) -r $(CUDA_LIBRARIES)
	$(if $(NVCC),,$(PIP) -r $(CUDA_COMPILER) || echo "No nvcc could be installed: on the GPU, the plugins' part of a run is done by the CPU")
	@touch $@

$(VENV)/test.stamp: tests/requirements.txt $(CUDA_LIBRARIES) $(VENV)/libtorch.stamp | test-packages
	$(PIP) -r tests/requirements.txt
	@touch $@
