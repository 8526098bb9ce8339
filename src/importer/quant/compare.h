// SPDX-License-Identifier: Apache-2.0
// compare measures what quantisation costs: the float network beside the plan, tensor by tensor.
#pragma once

#include <vector>

#include "importer/graph.h"
#include "importer/quant/emit.h"
#include "importer/quant/net.h"
#include "importer/quantise.h"
#include "importer/reference.h"

namespace slalom::importer {

// encode_sample turns a sample into the input codes of a plan: real values by each input's scale;
// 8-bit inputs are codes already.
std::vector<Codes> encode_sample(const Net& net, const model::Plan& plan, const Sample& sample);

// compare fills the signal-to-noise ratios of emitted.report over the first report_samples samples.
// `graph` is the float network whose values the Net's tensors name. Throws Failure.
void compare(const Graph& graph, const Net& net, const SampleSource& samples,
             const QuantiseOptions& options, Emitted& emitted);

}  // namespace slalom::importer
