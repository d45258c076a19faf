// Damaged weights.
#pragma once

#include <string>

#include "host/base/tensor.h"
#include "host/model/architecture.h"

namespace roundhouse {

// Throws Error, with where the first of them is, when a floating-point tensor holds NaN or infinity. `where`: the
// checkpoint.
void check_finite(const Tensor& tensor, const std::string& name, const std::string& where);

// Reads every tensor of the model once; throws Error for the first that is not finite.
void check_finite(const Architecture& architecture, TensorSource& source);

}  // namespace roundhouse
