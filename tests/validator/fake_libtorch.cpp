// SPDX-License-Identifier: Apache-2.0
// Stands for libtorch: a plugin must not need it.
extern "C" void fake_libtorch() {}
