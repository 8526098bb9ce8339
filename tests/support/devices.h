// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "slalom/result.h"

namespace slalom::testing {

// device_kinds names the devices that a test program is about; make_device makes one, or says why
// this machine has none. Each program that uses them links one definition.
[[nodiscard]] std::vector<std::string> device_kinds();
[[nodiscard]] Result<std::unique_ptr<device::Device>> make_device(const std::string& kind);

}  // namespace slalom::testing
