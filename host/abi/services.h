// SPDX-License-Identifier: Apache-2.0
// What the host offers to every plugin: its rh_host and the extensions of host.h and format.h.
#pragma once

#include <roundhouse/host.h>

#include <exception>
#include <new>

#include "host/base/error.h"

namespace roundhouse {

// The one rh_host of this process. It lives until the process ends.
const rh_host* host_table();

// The extensions that work on an export in progress; they are in export_session.cpp. NULL for an unknown id.
const void* export_extension(const char* id);

// Fills `error` (when there is one), cutting the message to what fits.
rh_code report_error(rh_error* error, rh_code code, const char* message) noexcept;

rh_code code_of(Failure failure) noexcept;

// Runs `body` on behalf of a plugin: an Error becomes the code of what failed, and no exception crosses.
template <typename Body>
rh_code answer_plugin(rh_error* error, Body&& body) noexcept {
  try {
    body();
    return RH_OK;
  } catch (const Error& e) {
    return report_error(error, code_of(e.failure()), e.what());
  } catch (const std::bad_alloc&) {
    return report_error(error, RH_RESOURCE_EXHAUSTED, "out of memory");
  } catch (const std::exception& e) {
    return report_error(error, RH_INTERNAL, e.what());
  } catch (...) {  // by a plugin's function that was called back
    return report_error(error, RH_INTERNAL, "an exception of unknown type");
  }
}

}  // namespace roundhouse
