// SPDX-License-Identifier: Apache-2.0
// equalise rescales neighbouring convolutions against each other, channel by channel, so that the
// channels of the tensor between them use its 8 bits evenly.
#pragma once

#include <cstddef>

#include "importer/graph.h"
#include "importer/quantise.h"

namespace slalom::importer {

// has_depthwise: a convolution of the graph has as many groups as input channels, and several.
bool has_depthwise(const Graph& graph);

// equalise changes the weights of a folded graph. For convolutions A and B with nothing but
// positively homogeneous operators between them (Relu, LeakyRelu, PRelu, pooling) that nobody else
// reads, output channel c of A is divided by s_c and input channel c of B multiplied by it, which
// changes nothing on real numbers (Nagel et al. 2019, section 4.1, equations 6 and 7). With a_c the
// largest magnitude of channel c over the samples and w_c that of B's weights for it:
//   s_c = a_c             if B is depthwise, whose weights have a scale for each channel anyway,
//   s_c = sqrt(a_c / w_c) otherwise (Xiao et al., "SmoothQuant", 2022, equation 4, alpha = 1/2),
// up to a common factor. Returns the number of pairs. Throws Failure.
std::size_t equalise(Graph& graph, const SampleSource& samples, const QuantiseOptions& options);

}  // namespace slalom::importer
