// SPDX-License-Identifier: Apache-2.0
// MobileNet (Howard et al. 2017, table 1), and the variant whose separable convolutions have no
// activation between their halves, so that each is one linear layer.
#include <array>

#include "importer/zoo/builder.h"

namespace slalom::importer {
namespace {

struct Separable {
  std::int64_t width;
  std::int64_t stride;
};
constexpr std::array<Separable, 13> kLayers = {{{64, 1},
                                                {128, 2},
                                                {128, 1},
                                                {256, 2},
                                                {256, 1},
                                                {512, 2},
                                                {512, 1},
                                                {512, 1},
                                                {512, 1},
                                                {512, 1},
                                                {512, 1},
                                                {1024, 2},
                                                {1024, 1}}};

}  // namespace

Graph make_mobilenet(std::string_view name, bool separable, const ZooOptions& options) {
  GraphBuilder b(name, options, options.input_size == 0 ? 224 : options.input_size);
  ValueId x = b.relu6(b.conv(b.input(), 32, square(3, 2, 1)));
  for (const Separable& layer : kLayers) {
    x = b.conv(x, b.channels(x), square(3, layer.stride, 1), b.channels(x));
    if (!separable) x = b.relu6(x);
    x = b.relu6(b.conv(x, layer.width, square(1)));
  }
  if (!options.top) return b.finish(x);
  return b.finish(b.softmax(b.dense(b.global_average(x), options.classes)));
}

}  // namespace slalom::importer
