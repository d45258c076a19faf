# SPDX-License-Identifier: Apache-2.0
# Cross-compiles for ARM64 with Debian's g++-aarch64-linux-gnu. What the host's libraries declare is the same on every
# processor, so this machine's headers serve; what links them is compiled only (the preset `aarch64` has the targets).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(_here /usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu)
list(APPEND CMAKE_PREFIX_PATH ${_here}/cmake)
list(APPEND CMAKE_SYSTEM_LIBRARY_PATH ${_here})
