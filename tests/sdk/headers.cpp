#include <roundhouse/abi.h>
#include <roundhouse/dtype.h>
#include <roundhouse/encodings.h>
#include <roundhouse/entry.h>
#include <roundhouse/floats.h>
#include <roundhouse/format.h>
#include <roundhouse/host.h>
#include <roundhouse/scheme.h>
#include <roundhouse/tensor.h>

/* RH_HAS must be usable in C on every kind of member. */
int has_destroy(const rh_quantizer *q) { return RH_HAS(q, destroy) && RH_KNOWS(q, reserved); }
