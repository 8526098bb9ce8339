// SPDX-License-Identifier: Apache-2.0
// ResNet (He et al. 2015, "Deep Residual Learning", table 1; projection shortcuts where the shape
// changes).
#include <array>

#include "importer/zoo/builder.h"

namespace slalom::importer {
namespace {

ValueId basic_block(GraphBuilder& b, ValueId x, std::int64_t width, std::int64_t stride) {
  ValueId y = b.relu(b.conv(x, width, square(3, stride, 1)));
  y = b.conv(y, width, square(3, 1, 1));
  const bool projects = stride != 1 || b.channels(x) != width;
  return b.relu(b.add(y, projects ? b.conv(x, width, square(1, stride)) : x));
}

ValueId bottleneck(GraphBuilder& b, ValueId x, std::int64_t width, std::int64_t stride) {
  ValueId y = b.relu(b.conv(x, width, square(1, stride)));
  y = b.relu(b.conv(y, width, square(3, 1, 1)));
  y = b.conv(y, 4 * width, square(1));
  const bool projects = stride != 1 || b.channels(x) != 4 * width;
  return b.relu(b.add(y, projects ? b.conv(x, 4 * width, square(1, stride)) : x));
}

std::array<int, 4> blocks_of(int depth) {
  switch (depth) {
    case 18:
      return {2, 2, 2, 2};
    case 34:
    case 50:
      return {3, 4, 6, 3};
    case 101:
      return {3, 4, 23, 3};
    default:
      return {3, 8, 36, 3};
  }
}

}  // namespace

Graph make_resnet(std::string_view name, int depth, const ZooOptions& options) {
  GraphBuilder b(name, options, options.input_size == 0 ? 224 : options.input_size);
  ValueId x = b.relu(b.conv(b.input(), 64, square(7, 2, 3)));
  x = b.max_pool(x, square(3, 2, 1));
  const std::array<int, 4> blocks = blocks_of(depth);
  std::int64_t width = 64;
  for (std::size_t stage = 0; stage < blocks.size(); ++stage, width *= 2) {
    for (int i = 0; i < blocks[stage]; ++i) {
      const std::int64_t stride = stage != 0 && i == 0 ? 2 : 1;
      x = depth < 50 ? basic_block(b, x, width, stride) : bottleneck(b, x, width, stride);
    }
  }
  if (!options.top) return b.finish(x);
  return b.finish(b.softmax(b.dense(b.global_average(x), options.classes)));
}

}  // namespace slalom::importer
