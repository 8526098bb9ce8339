// SPDX-License-Identifier: Apache-2.0
// VGG (Simonyan and Zisserman 2014, table 1, configurations D and E).
#include <array>

#include "importer/zoo/builder.h"

namespace slalom::importer {

Graph make_vgg(std::string_view name, int depth, const ZooOptions& options) {
  GraphBuilder b(name, options, options.input_size == 0 ? 224 : options.input_size);
  // Convolutions in each of the five stages.
  const std::array<int, 5> counts =
      depth == 16 ? std::array{2, 2, 3, 3, 3} : std::array{2, 2, 4, 4, 4};
  constexpr std::array<std::int64_t, 5> kWidths = {64, 128, 256, 512, 512};
  ValueId x = b.input();
  for (std::size_t stage = 0; stage < counts.size(); ++stage) {
    for (int i = 0; i < counts[stage]; ++i) x = b.relu(b.conv(x, kWidths[stage], square(3, 1, 1)));
    x = b.max_pool(x, square(2, 2));
  }
  if (!options.top) return b.finish(x);
  x = b.relu(b.dense(x, 4096));
  x = b.relu(b.dense(x, 4096));
  return b.finish(b.softmax(b.dense(x, options.classes)));
}

}  // namespace slalom::importer
