# Finds libtorch's CPU library and defines the target `torch_cpu_only`.
#
# libtorch's own CMake package demands a CUDA toolkit even for a CPU build, so the targets are made here.
# It is looked for under CMAKE_PREFIX_PATH, then in the virtual environment that `make` puts into the build tree.
file(GLOB _venv_torch ${CMAKE_BINARY_DIR}/venv/lib/python3*/site-packages/torch)
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
target_link_options(torch_cpu_only INTERFACE
  -Wl,--disable-new-dtags -Wl,-rpath,${TORCH_LIBRARY_DIR} -Wl,--allow-shlib-undefined)
foreach(_dir ${_cuda_runtime_dirs})
  get_filename_component(_dir ${_dir} REALPATH)
  target_link_options(torch_cpu_only INTERFACE -Wl,-rpath,${_dir})
endforeach()
