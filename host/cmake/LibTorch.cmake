# SPDX-License-Identifier: Apache-2.0
# Finds libtorch's CPU library and defines the target `torch_cpu_only`.
#
# libtorch's own CMake package demands a CUDA toolkit even for a CPU build, so the targets are made here.
# It is looked for under CMAKE_PREFIX_PATH, then in the virtual environment that `make` puts into build/.
file(GLOB _venv_torch ${CMAKE_BINARY_DIR}/venv/lib/python3*/site-packages/torch
  ${PROJECT_SOURCE_DIR}/build/venv/lib/python3*/site-packages/torch)
find_path(TORCH_INCLUDE_DIR torch/csrc/autograd/variable.h HINTS ${_venv_torch} PATH_SUFFIXES include)
find_library(TORCH_CPU_LIBRARY torch_cpu HINTS ${_venv_torch} PATH_SUFFIXES lib)
find_library(C10_LIBRARY c10 HINTS ${_venv_torch} PATH_SUFFIXES lib)
if(NOT TORCH_INCLUDE_DIR OR NOT TORCH_CPU_LIBRARY OR NOT C10_LIBRARY)
  message(FATAL_ERROR "libtorch was not found. Run `make quickstart`, which unpacks it into the build tree, or pass "
                      "-DCMAKE_PREFIX_PATH=<the torch folder with include/ and lib/>.")
endif()
get_filename_component(TORCH_LIBRARY_DIR ${TORCH_CPU_LIBRARY} DIRECTORY)
# The wheel's libtorch_cpu needs these two at load time, whether or not a GPU is there.
file(GLOB _cuda_runtime_dirs ${TORCH_LIBRARY_DIR}/../../nvidia/cu13/lib)

add_library(torch_cpu_only INTERFACE)
target_include_directories(torch_cpu_only SYSTEM INTERFACE ${TORCH_INCLUDE_DIR})
target_link_libraries(torch_cpu_only INTERFACE ${TORCH_CPU_LIBRARY} ${C10_LIBRARY})
# An RPATH, which an environment's LD_LIBRARY_PATH does not override: two libgomps in one process would not work.
target_link_options(torch_cpu_only INTERFACE -Wl,--disable-new-dtags -Wl,--allow-shlib-undefined)
foreach(_dir ${_cuda_runtime_dirs})
  get_filename_component(_dir ${_dir} REALPATH)
  target_link_options(torch_cpu_only INTERFACE -Wl,-rpath-link,${_dir})
endforeach()

# What an installation needs of it, in a folder of its own: libtorch's own RPATH includes the folder that it lies in.
set(TORCH_INSTALL_DIR lib/roundhouse/torch)
set(TORCH_RUNTIME_LIBRARIES ${TORCH_CPU_LIBRARY} ${C10_LIBRARY})
foreach(_dir ${TORCH_LIBRARY_DIR} ${_cuda_runtime_dirs})
  file(GLOB _needed ${_dir}/libgomp*.so* ${_dir}/libcudart.so.* ${_dir}/libcupti.so.*)
  list(APPEND TORCH_RUNTIME_LIBRARIES ${_needed})
endforeach()
file(GLOB TORCH_LICENSES ${TORCH_LIBRARY_DIR}/../../torch-*.dist-info/licenses/*)
file(GLOB CUDA_LICENSES ${TORCH_LIBRARY_DIR}/../../nvidia_cuda_*.dist-info/licenses/*)
file(STRINGS ${TORCH_INCLUDE_DIR}/torch/headeronly/version.h _version REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
list(TRANSFORM _version REPLACE ".* " "")
list(JOIN _version "." TORCH_VERSION)
