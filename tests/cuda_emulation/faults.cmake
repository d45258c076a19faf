# SPDX-License-Identifier: Apache-2.0
# Faults that the emulation must find: programs with one of them each, whose tests have to fail in the expected words.

# What all of them share.
add_library(cuda_fault_runtime OBJECT EXCLUDE_FROM_ALL ${_runtime})
target_include_directories(cuda_fault_runtime PRIVATE source ${PROJECT_SOURCE_DIR})
foreach(_family affine scaled)
  add_library(cuda_fault_test_${_family} OBJECT EXCLUDE_FROM_ALL ../kernels/${_family}_cuda_test.cpp)
  target_include_directories(cuda_fault_test_${_family} PRIVATE source ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/sdk/include)
endforeach()

# seeded_fault(<name> <source|ptx> <affine|scaled> <file below kernels/cuda> <text> <what stands there instead>
#   <regular expression of what the test says> [VARIABLE=value...])
function(seeded_fault name mode family file text fault says)
  set(original ${PROJECT_SOURCE_DIR}/kernels/cuda/${file})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${original})
  file(READ ${original} content)
  string(FIND "${content}" "${text}" place)
  if(place EQUAL -1)
    message(FATAL_ERROR "the seeded fault ${name}: ${file} does not hold \"${text}\" any more")
  endif()
  string(REPLACE "${text}" "${fault}" content "${content}")
  set(overlay ${_generated}/faults/${name})
  file(GENERATE OUTPUT ${overlay}/kernels/cuda/${file} CONTENT "${content}")
  set(kernel ${PROJECT_SOURCE_DIR}/kernels/cuda/${family}.cu)
  if(file STREQUAL "${family}.cu")
    set(kernel ${overlay}/kernels/cuda/${file})
  endif()
  set(includes ${overlay} ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/sdk/include)
  set(program cuda_fault_${name})
  if(mode STREQUAL "source")
    rewritten_kernel(${overlay}/${family}.cpp ${kernel})
    add_executable(${program} EXCLUDE_FROM_ALL ${overlay}/${family}.cpp $<TARGET_OBJECTS:cuda_fault_runtime>
      $<TARGET_OBJECTS:cuda_fault_test_${family}>)
    target_include_directories(${program} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/source)
  else()
    translated_kernel(${overlay}/${family} ${kernel} ${includes})
    add_executable(${program} EXCLUDE_FROM_ALL ${_runtime} ptx/cudart.cpp ../kernels/${family}_cuda_test.cpp
      ${overlay}/${family}.ptx.cpp ${overlay}/${family}.o)
    target_include_directories(${program} SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  endif()
  target_include_directories(${program} PRIVATE ${includes})
  target_link_libraries(${program} PRIVATE kernels_cpu Roundhouse::sdk GTest::gtest_main)
  set(FILTER --gtest_filter=*Hard* --gtest_fail_fast)
  long_test(fault_${name} ${program} ${ARGN})
  set_tests_properties(emulation.fault_${name} PROPERTIES PASS_REGULAR_EXPRESSION "${says}")
endfunction()

seeded_fault(order_of_sums source affine launch.cuh "int half = W / 2; half > 0; half /= 2"
  "int half = 1; half < W; half *= 2" "expected")
seeded_fault(another_lanes_value source affine launch.cuh "__shfl_sync(kWarp, x, 0, T)"
  "__shfl_sync(kWarp, x, 1, T)" "searched.*expected")
seeded_fault(half_a_mask source affine launch.cuh "kWarp = 0xffffffffu"
  "kWarp = 0xffff0000u" "a lane is not in its own mask")
seeded_fault(last_block_left_out source affine launch.cuh "(threads + kThreads - 1) / kThreads"
  "(threads + kThreads) / kThreads - 1" "invalid configuration|expected")
seeded_fault(nan_is_missed source affine affine.cu "finite = finite + (smallest - smallest)" "finite = finite + 0.0f" "expected")
seeded_fault(padding_untouched source affine affine.cu "finish_padding(finish, span.v + i)" "(void)i" "grad v.*expected -?0")
seeded_fault(ties_to_the_later source affine affine.cu "!(total < best)" "!(total <= best)" "searched.*expected")
seeded_fault(one_lane_too_far source scaled scaled.cu "maximum[index] = largest;" "maximum[index + 1] = largest;" "expected|overflow")
if(ROUNDHOUSE_WITH_CUDA)
  seeded_fault(lanes_do_not_wait ptx affine launch.cuh "{ __syncwarp(kWarp); }" "{}" "race" CUDA_EMULATION_STRICT=1)
  seeded_fault(beyond_the_end ptx scaled scaled.cu "if (index >= spans.count) return;" "" "outside of device memory")
endif()
