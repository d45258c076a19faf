# SPDX-License-Identifier: Apache-2.0
# find_package(Roundhouse CONFIG): the SDK, wherever its folder lies now.
#   Roundhouse::sdk           the headers
#   roundhouse_add_plugin()   see RoundhousePlugin.cmake
#   roundhouse_test_plugins() below
#   Roundhouse::roundhouse, Roundhouse::roundhouse-validate   the programs, where they are installed too
#   Roundhouse_EXAMPLES       the folder of the example model and texts
get_filename_component(_roundhouse_prefix ${CMAKE_CURRENT_LIST_DIR}/../../.. ABSOLUTE)
if(NOT TARGET Roundhouse::sdk)
  add_library(Roundhouse::sdk INTERFACE IMPORTED)
  set_target_properties(Roundhouse::sdk PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${_roundhouse_prefix}/include)
endif()
foreach(_program roundhouse roundhouse-validate)
  if(EXISTS ${_roundhouse_prefix}/bin/${_program} AND NOT TARGET Roundhouse::${_program})
    add_executable(Roundhouse::${_program} IMPORTED)
    set_target_properties(Roundhouse::${_program} PROPERTIES IMPORTED_LOCATION ${_roundhouse_prefix}/bin/${_program})
  endif()
endforeach()
set(Roundhouse_EXAMPLES ${_roundhouse_prefix}/share/roundhouse/examples)
include(${CMAKE_CURRENT_LIST_DIR}/RoundhousePlugin.cmake)

# roundhouse_test_plugins(TARGETS <plugin>... RECIPE <file>)
#
# Tests, as far as the programs are installed: each plugin passes roundhouse-validate; `roundhouse run` does the recipe
# with them, in the build tree. The recipe may say @Roundhouse_EXAMPLES@.
function(roundhouse_test_plugins)
  cmake_parse_arguments(ARG "" "RECIPE" "TARGETS" ${ARGN})
  set(plugins)
  foreach(target ${ARG_TARGETS})
    list(APPEND plugins --plugin $<TARGET_FILE:${target}>)
    if(TARGET Roundhouse::roundhouse-validate)
      add_test(NAME ${target}.validate COMMAND Roundhouse::roundhouse-validate $<TARGET_FILE:${target}>)
    endif()
  endforeach()
  if(TARGET Roundhouse::roundhouse)
    configure_file(${ARG_RECIPE} recipe.yaml @ONLY)
    add_test(NAME recipe COMMAND Roundhouse::roundhouse ${plugins} run recipe.yaml --overwrite)
  endif()
endfunction()
