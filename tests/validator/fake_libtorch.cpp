// Stands for libtorch: a plugin must not need it.
extern "C" void fake_libtorch() {}
