// SPDX-License-Identifier: Apache-2.0
// Inception v3 (Szegedy et al. 2015, "Rethinking the Inception Architecture", table 1 and figures 5
// to 7), without the auxiliary classifier.
#include "importer/zoo/builder.h"

namespace slalom::importer {
namespace {

// Inception writes a convolution with its activation, the unit that the figures draw.
class Inception {
 public:
  explicit Inception(GraphBuilder& builder) : b(builder) {}

  ValueId unit(ValueId x, std::int64_t out, const Kernel& kernel) {
    return b.relu(b.conv(x, out, kernel));
  }
  ValueId point(ValueId x, std::int64_t out) { return unit(x, out, square(1)); }
  ValueId row(ValueId x, std::int64_t out, std::int64_t k) {
    return unit(x, out, {.h = 1, .w = k, .stride = 1, .pad_h = 0, .pad_w = k / 2});
  }
  ValueId column(ValueId x, std::int64_t out, std::int64_t k) {
    return unit(x, out, {.h = k, .w = 1, .stride = 1, .pad_h = k / 2, .pad_w = 0});
  }
  ValueId pooled(ValueId x, std::int64_t out) {
    return point(b.average_pool(x, square(3, 1, 1)), out);
  }

  ValueId stem(ValueId x) {
    x = unit(x, 32, square(3, 2));
    x = unit(x, 32, square(3));
    x = unit(x, 64, square(3, 1, 1));
    x = b.max_pool(x, square(3, 2));
    x = point(x, 80);
    x = unit(x, 192, square(3));
    return b.max_pool(x, square(3, 2));
  }

  // 35x35, figure 5.
  ValueId wide(ValueId x, std::int64_t pool) {
    const ValueId one = point(x, 64);
    const ValueId five = unit(point(x, 48), 64, square(5, 1, 2));
    ValueId twice = unit(point(x, 64), 96, square(3, 1, 1));
    twice = unit(twice, 96, square(3, 1, 1));
    return b.concat({one, five, twice, pooled(x, pool)});
  }
  ValueId to_17(ValueId x) {
    const ValueId three = unit(x, 384, square(3, 2));
    ValueId twice = unit(point(x, 64), 96, square(3, 1, 1));
    twice = unit(twice, 96, square(3, 2));
    return b.concat({three, twice, b.max_pool(x, square(3, 2))});
  }

  // 17x17, figure 6 with n = 7.
  ValueId factored(ValueId x, std::int64_t inner) {
    const ValueId one = point(x, 192);
    const ValueId once = column(row(point(x, inner), inner, 7), 192, 7);
    ValueId twice = row(column(point(x, inner), inner, 7), inner, 7);
    twice = row(column(twice, inner, 7), 192, 7);
    return b.concat({one, once, twice, pooled(x, 192)});
  }
  ValueId to_8(ValueId x) {
    const ValueId three = unit(point(x, 192), 320, square(3, 2));
    const ValueId seven = unit(column(row(point(x, 192), 192, 7), 192, 7), 192, square(3, 2));
    return b.concat({three, seven, b.max_pool(x, square(3, 2))});
  }

  // 8x8, figure 7.
  ValueId expanded(ValueId x) {
    const ValueId one = point(x, 320);
    const ValueId three = point(x, 384);
    const ValueId twice = unit(point(x, 448), 384, square(3, 1, 1));
    return b.concat({one, row(three, 384, 3), column(three, 384, 3), row(twice, 384, 3),
                     column(twice, 384, 3), pooled(x, 192)});
  }

 private:
  GraphBuilder& b;  // NOLINT(readability-identifier-naming): read in every line
};

}  // namespace

Graph make_inception_v3(std::string_view name, const ZooOptions& options) {
  GraphBuilder b(name, options, options.input_size == 0 ? 299 : options.input_size);
  Inception inception(b);
  ValueId x = inception.stem(b.input());
  x = inception.wide(x, 32);
  x = inception.wide(x, 64);
  x = inception.wide(x, 64);
  x = inception.to_17(x);
  x = inception.factored(x, 128);
  x = inception.factored(x, 160);
  x = inception.factored(x, 160);
  x = inception.factored(x, 192);
  x = inception.to_8(x);
  x = inception.expanded(x);
  x = inception.expanded(x);
  if (!options.top) return b.finish(x);
  return b.finish(b.softmax(b.dense(b.global_average(x), options.classes)));
}

}  // namespace slalom::importer
