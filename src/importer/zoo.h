// SPDX-License-Identifier: Apache-2.0
// The model zoo: well-known architectures with seeded synthetic weights, for work on speed and for
// tests. Their shapes, and so their costs, are the real ones; their answers mean nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "importer/error.h"
#include "importer/graph.h"
#include "importer/quantise.h"

namespace slalom::importer {

struct ZooOptions {
  std::uint32_t input_size = 0;  // height and width; 0: the architecture's own (224, or 299)
  std::uint32_t classes = 1000;
  bool top = true;  // false: leave out the classifier; the output is the last feature map
  std::uint64_t seed = 0;
};

// zoo_names lists the architectures: vgg16 vgg19 (Simonyan and Zisserman 2014), mobilenet (Howard
// et al. 2017), mobilenet_sep (the same without the activation between the halves of each separable
// convolution), resnet18 resnet34 resnet50 resnet101 resnet152 (He et al. 2015; a bottleneck's
// stride is in its first convolution, as there), inception_v3 (Szegedy et al. 2015).
std::span<const std::string_view> zoo_names();

// zoo_graph builds the float network: batch normalisation already folded, one input "input" of
// shape [1,3,S,S]. Weights follow He et al. 2015 ("Delving Deep into Rectifiers") and are then
// rescaled layer by layer on a synthetic picture, so that every layer's outputs have mean near 0
// and deviation near 1: nothing saturates and nothing dies.
// Errors: an unknown name, an input too small for the architecture, no classes.
ImportResult<Graph> zoo_graph(std::string_view name, const ZooOptions& options = {},
                              const Progress& progress = nullptr);

// zoo_samples gives seeded synthetic pictures (smooth shapes and noise, values about -2..2) of the
// graph's input.
SampleSource zoo_samples(std::uint64_t seed, std::size_t count);

// zoo_quantise_options are the defaults for synthetic networks: min-max, nothing to correct, one
// sample compared.
QuantiseOptions zoo_quantise_options();

}  // namespace slalom::importer
