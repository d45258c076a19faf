# find_package(Roundhouse CONFIG): the SDK, wherever its folder lies now.
#   Roundhouse::sdk           the headers
#   roundhouse_add_plugin()   see RoundhousePlugin.cmake
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
