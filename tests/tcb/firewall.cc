// SPDX-License-Identifier: Apache-2.0
// Compiled with the trusted library's include roots, with and without REACH_OUT.
#include "channel/port.h"
#ifdef REACH_OUT
#include "device/device.h"
#endif
