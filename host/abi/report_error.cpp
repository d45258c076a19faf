#include <roundhouse/helper/text.hpp>

#include "host/abi/services.h"

namespace roundhouse {

rh_code report_error(rh_error* error, rh_code code, const char* message) noexcept {
  if (error) {
    error->code = code;
    rh::copy_text(error->message, sizeof error->message, message);
  }
  return code;
}

}  // namespace roundhouse
