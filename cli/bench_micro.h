// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace slalom::cli {

// bench_micro runs the Google Benchmark programs that stand beside this one (bench_*), those of
// their benchmarks whose names contain `filter`, or without one all of bench_field, and prints one
// table for each, or one JSON object. Returns the exit status; throws Stop(kUnavailable) if there
// are no such programs, Stop(kInvalidArgument) if none has such a benchmark.
int bench_micro(const std::string& filter, bool json);

}  // namespace slalom::cli
