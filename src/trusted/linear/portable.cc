// SPDX-License-Identifier: Apache-2.0
#include "linear/portable.h"

#include <immintrin.h>

#include <algorithm>

#include "base/assert.h"

namespace slalom::linear {
namespace {

// convolve calls store(output index, sum) for every output of one image. sum is made of
// dot(weights, inputs, n) for each tap inside the input and outside * (sum of weights) for the
// others.
template <class In, class Dot, class Store>
void convolve(const model::ConvStage& stage, const In* in, std::int64_t outside, Dot dot,
              Store store) {
  const model::Conv& c = stage.conv;
  const model::Window& w = c.window;
  const std::size_t n = c.group_in();
  std::size_t index = 0;
  for (std::int64_t oy = 0; oy < c.out.h; ++oy) {
    for (std::int64_t ox = 0; ox < c.out.w; ++ox) {
      for (std::size_t o = 0; o < c.out.c; ++o, ++index) {
        const std::int8_t* weights = stage.weights.data() + o * c.terms();
        const std::size_t first = o / c.group_out() * n;
        std::int64_t sum = 0;
        for (std::int64_t ky = 0; ky < w.kernel_h; ++ky) {
          for (std::int64_t kx = 0; kx < w.kernel_w; ++kx, weights += n) {
            const std::int64_t y = oy * w.stride_h + ky * w.dilation_h - w.pad_top;
            const std::int64_t x = ox * w.stride_w + kx * w.dilation_w - w.pad_left;
            if (y >= 0 && y < c.in.h && x >= 0 && x < c.in.w) {
              const auto at = static_cast<std::size_t>(y * c.in.w + x) * c.in.c;
              sum += dot(weights, in + at + first, n);
            } else if (outside != 0) {
              for (std::size_t i = 0; i < n; ++i) sum += weights[i] * outside;
            }
          }
        }
        store(index, sum);
      }
    }
  }
}

struct DotCodes {
  std::int64_t operator()(const std::int8_t* w, const std::uint8_t* q, std::size_t n) const {
    std::int64_t total = 0;
    for (std::size_t first = 0; first < n; first += 65536) {  // 65536 * 127 * 128 < 2^31
      const std::size_t last = std::min(n, first + 65536);
      std::int32_t sum = 0;
      for (std::size_t i = first; i < last; ++i) sum += w[i] * (q[i] - 128);
      total += sum;
    }
    return total;
  }
};

struct DotWide {  // of exact sums or words
  template <class In>
  std::int64_t operator()(const std::int8_t* w, const In* v, std::size_t n) const {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += std::int64_t{w[i]} * std::int64_t{v[i]};
    return sum;
  }
};

template <std::uint32_t P>
std::uint32_t reduce(
    std::int64_t v) {  // P is a constant here so that no division instruction is used
  const std::int64_t r = v % std::int64_t{P};
  return static_cast<std::uint32_t>(r + ((r >> 63) & std::int64_t{P}));
}

void conv_words(const model::ConvStage& stage, field::Field f, const std::uint32_t* x,
                std::uint32_t* y) {
  if (f == field::Field::kP24) {
    convolve(stage, x, 0, DotWide{},
             [&](std::size_t i, std::int64_t sum) { y[i] = reduce<field::kP24>(sum); });
  } else {
    convolve(stage, x, 0, DotWide{},
             [&](std::size_t i, std::int64_t sum) { y[i] = reduce<field::kP31>(sum); });
  }
}

// requantise is the rule of model::Requant for an 8-bit output.
std::uint8_t requantise(std::int32_t accumulator, float multiplier, const model::Requant& rule) {
  constexpr float kLargest = 1073741824.0F;  // 2^30
  const float v = std::clamp(static_cast<float>(accumulator) * multiplier, -kLargest, kLargest);
  const std::int32_t rounded = _mm_cvtss_si32(_mm_set_ss(v));  // to nearest even, by MXCSR
  const auto code =
      static_cast<std::uint32_t>(std::clamp(rounded + rule.zero_point, rule.lo, rule.hi));
  if (rule.table.empty()) return static_cast<std::uint8_t>(code);
  // Every entry is read, so that no address depends on the data.
  std::uint32_t picked = 0;
  for (std::uint32_t entry = 0; entry < 256; ++entry) {
    picked |= rule.table[entry] & (((entry ^ code) - 1) >> 8);
  }
  return static_cast<std::uint8_t>(picked);
}

class Portable final : public Engine {
 public:
  Portable(const model::Linear& layer, const EngineOptions& options)
      : layer_(layer),
        own_pool_(1),
        pool_(options.pool != nullptr ? *options.pool : own_pool_),
        max_batch_(options.max_batch) {
    if (layer.stages.size() == 2) {
      pool_.reserve_scratch(layer.stages[1].conv.in.elements() * sizeof(std::int32_t));
    }
  }

  void run_codes(std::span<const std::uint8_t> codes, std::uint8_t pad_code, std::size_t batch,
                 std::span<std::int32_t> y) override {
    check(batch, codes.size(), y.size());
    pool_.parallel_for(batch, [&](std::size_t image, std::size_t worker) {
      std::int32_t* out = y.data() + image * layer_.out().elements();
      codes_of_image(
          codes.data() + image * layer_.in().elements(), pad_code, worker,
          [&](std::size_t i, std::int64_t sum) { out[i] = static_cast<std::int32_t>(sum); });
    });
  }

  void run_requant(std::span<const std::uint8_t> codes, std::uint8_t pad_code, std::size_t batch,
                   std::span<std::uint8_t> out) override {
    check(batch, codes.size(), out.size());
    const model::Requant& rule = layer_.requant;
    const std::size_t channels = layer_.out().c;
    pool_.parallel_for(batch, [&](std::size_t image, std::size_t worker) {
      std::uint8_t* to = out.data() + image * layer_.out().elements();
      codes_of_image(codes.data() + image * layer_.in().elements(), pad_code, worker,
                     [&](std::size_t i, std::int64_t sum) {
                       const std::size_t o = i % channels;
                       to[i] =
                           requantise(static_cast<std::int32_t>(sum) + layer_.bias[o],
                                      rule.multiplier[rule.multiplier.size() == 1 ? 0 : o], rule);
                     });
    });
  }

  void run_words(field::Field f, std::span<const std::uint32_t> words, std::size_t batch,
                 std::span<std::uint32_t> y) override {
    check(batch, words.size(), y.size());
    pool_.parallel_for(batch, [&](std::size_t image, std::size_t worker) {
      const std::uint32_t* in = words.data() + image * layer_.in().elements();
      std::uint32_t* out = y.data() + image * layer_.out().elements();
      if (layer_.stages.size() == 1) {
        conv_words(layer_.stages[0], f, in, out);
      } else {
        auto* middle = reinterpret_cast<std::uint32_t*>(pool_.scratch(worker).data());
        conv_words(layer_.stages[0], f, in, middle);
        conv_words(layer_.stages[1], f, middle, out);
      }
    });
  }

  [[nodiscard]] std::string_view backend_name() const noexcept override { return "portable"; }

 private:
  void check(std::size_t batch, std::size_t in, std::size_t out) const {
    SLALOM_ASSERT(batch >= 1 && batch <= max_batch_ && in == batch * layer_.in().elements() &&
                  out == batch * layer_.out().elements());
  }
  // All sums of a validated plan are below 2^31. A first stage may exceed that in channels which
  // the second multiplies by zero: there the cut to 32 bits changes nothing.
  template <class Store>
  void codes_of_image(const std::uint8_t* codes, std::uint8_t pad_code, std::size_t worker,
                      Store store) {
    const std::int64_t outside = std::int64_t{pad_code} - 128;
    if (layer_.stages.size() == 1) {
      convolve(layer_.stages[0], codes, outside, DotCodes{}, store);
      return;
    }
    auto* middle = reinterpret_cast<std::int32_t*>(pool_.scratch(worker).data());
    convolve(layer_.stages[0], codes, outside, DotCodes{},
             [&](std::size_t i, std::int64_t sum) { middle[i] = static_cast<std::int32_t>(sum); });
    convolve(layer_.stages[1], middle, 0, DotWide{}, store);
  }

  const model::Linear& layer_;
  base::ThreadPool own_pool_;
  base::ThreadPool& pool_;
  std::size_t max_batch_;
};

}  // namespace

std::unique_ptr<Engine> make_portable(const model::Linear& layer, const EngineOptions& options) {
  return std::make_unique<Portable>(layer, options);
}

}  // namespace slalom::linear
