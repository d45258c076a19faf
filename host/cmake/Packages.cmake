# SPDX-License-Identifier: Apache-2.0
# `cpack -G DEB` in the build tree makes roundhouse_*.deb and roundhouse-sdk_*.deb.
set(CPACK_PACKAGE_NAME roundhouse)
set(CPACK_PACKAGE_VENDOR Roundhouse)
set(CPACK_PACKAGE_CONTACT "The Roundhouse developers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Quantizes language models; every number format and file format is a plugin")
set(CPACK_COMPONENTS_ALL runtime sdk)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION "The program with its plugins, presets, an example model, and libtorch's CPU libraries.")
set(CPACK_COMPONENT_SDK_DESCRIPTION "Headers, CMake package, templates and examples for plugins of Roundhouse.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)  # of 470 MB of libtorch: xz takes minutes
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME roundhouse)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_PROVIDES roundhouse-abi-${ROUNDHOUSE_ABI_MAJOR})  # what packages of plugins depend on
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
get_filename_component(_torch ${TORCH_CPU_LIBRARY} DIRECTORY)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${_torch} ${_torch}/../../nvidia/cu13/lib)
set(CPACK_DEBIAN_SDK_PACKAGE_NAME roundhouse-sdk)
set(CPACK_DEBIAN_SDK_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_SDK_PACKAGE_RECOMMENDS roundhouse)
set(CPACK_DEBIAN_SDK_PACKAGE_SECTION libdevel)
include(CPack)
