// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "cli/bench_measure.h"

// How `slalom bench` shows what it measured; docs/cli.md describes the JSON object.

namespace slalom::cli {

void print_bench(const BenchOptions& options, const std::vector<BenchRow>& rows);
void print_bench_json(const BenchOptions& options, const std::vector<BenchRow>& rows);

}  // namespace slalom::cli
