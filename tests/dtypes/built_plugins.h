// SPDX-License-Identifier: Apache-2.0
// The plugins of this build tree and no others.
#pragma once

#include "host/discovery/catalogue.h"

namespace roundhouse {

inline Catalogue discover_built_plugins() {
  DiscoveryOptions options;
  options.directories = {ROUNDHOUSE_BUILD "/lib/roundhouse/plugins"};
  options.use_cache = false;
  return Catalogue::discover(options);
}

}  // namespace roundhouse
