# SPDX-License-Identifier: Apache-2.0
# roundhouse_add_plugin(<kind> <name> SOURCES <file>... [LIBRARIES <target>...])
#
# Builds librh_<kind>_<name>.so, target rh_<kind>_<name>, which exports rh_get_entry and nothing else.
function(roundhouse_add_plugin kind name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBRARIES" ${ARGN})
  set(target rh_${kind}_${name})
  set(exports ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/plugin.map)
  add_library(${target} MODULE ${ARG_SOURCES})
  set_property(GLOBAL APPEND PROPERTY ROUNDHOUSE_PLUGINS ${target})
  target_link_libraries(${target} PRIVATE Roundhouse::sdk ${ARG_LIBRARIES} m)
  set_target_properties(${target} PROPERTIES
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    LINK_DEPENDS ${exports})
  if(NOT CMAKE_CXX_STANDARD)
    set_target_properties(${target} PROPERTIES CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON)  # what plugin.hpp needs
  endif()
  # a*b+c rounds twice on every processor: the same weights give the same bits.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off>)
  # Symbols of static libraries stay inside; an undefined symbol fails here and not at a user's dlopen.
  target_link_options(${target} PRIVATE
    -Wl,--version-script=${exports} -Wl,-z,defs -Wl,--exclude-libs,ALL -static-libstdc++ -static-libgcc)
endfunction()
