// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

// The kernels of a GPU worker, as functions of one index: a GPU runs operator()(i) for every i <
// count() at once, a test runs them in a loop (tests/support/host_accelerator.h), so the arithmetic
// is tested on machines without a GPU. Everything here is exact; nothing here is trusted.
//
// Words and limbs. A word v of F_p is centred (v <= limb_centre(p) ? v : v - p) and cut into 3
// (p24) or 4 (p31) balanced base-256 digits, each an int8 (field/prime.h). A layer on words is one
// int8 matrix product per digit; the digits' sums are put together again mod p.

#if defined(__CUDACC__)
#define SLALOM_HD __host__ __device__
#else
#define SLALOM_HD
#endif

namespace slalom::device::gpu {

inline constexpr std::uint32_t kP24 = (1U << 24) - 3;
inline constexpr std::uint32_t kP31 = (1U << 31) - 1;
inline constexpr std::uint32_t kGroup = 16;  // values that one index handles

// Format is how the elements of a tensor lie in memory.
enum class Format : std::uint8_t {
  kCodes,   // one byte q, of value q - 128
  kPacked,  // word_bytes(field) bytes a word, little-endian
  kWide,    // uint32 a word
};

struct Numbers {
  std::uint32_t p = kP24;
  std::uint32_t centre = 8'355'711;  // the largest word that stands for itself
  std::uint32_t digits = 3;          // int8 digits of a word, and bytes of a packed one
};

SLALOM_HD inline Numbers numbers_of(bool p24) {
  if (p24) return {kP24, 8'355'711U, 3};
  return {kP31, 2'139'062'143U, 4};
}

// reduce maps any |v| < 2^62 to its residue in [0, p).
SLALOM_HD inline std::uint32_t reduce(std::int64_t v, std::uint32_t p) {
  if (p == kP24) {
    auto u = static_cast<std::uint64_t>(v + (static_cast<std::int64_t>(kP24) << 38));
    for (int i = 0; i < 3; ++i) u = (u & 0xffffffU) + 3 * (u >> 24);  // 2^24 = 3 mod p
    const auto w = static_cast<std::uint32_t>(u);
    return w >= kP24 ? w - kP24 : w;
  }
  auto u = static_cast<std::uint64_t>(v + (static_cast<std::int64_t>(kP31) << 31));
  for (int i = 0; i < 3; ++i) u = (u & kP31) + (u >> 31);
  const auto w = static_cast<std::uint32_t>(u);
  return w >= kP31 ? w - kP31 : w;
}

// Tensor reads elements of a layer's input, whoever wrote it: every bit pattern is a number.
struct Tensor {
  const std::uint8_t* data = nullptr;
  Format format = Format::kCodes;
  Numbers numbers;

  // value is the integer that element i stands for, in -128..127 or centred mod p.
  [[nodiscard]] SLALOM_HD std::int32_t value(std::size_t i) const {
    if (format == Format::kCodes) return static_cast<std::int32_t>(data[i]) - 128;
    std::uint32_t word = 0;
    if (format == Format::kWide) {
      word = reinterpret_cast<const std::uint32_t*>(data)[i];
    } else {
      const std::uint8_t* at = data + i * numbers.digits;
      for (std::uint32_t b = 0; b < numbers.digits; ++b) word |= std::uint32_t{at[b]} << (8 * b);
    }
    return centred(word);
  }
  [[nodiscard]] SLALOM_HD std::int32_t centred(std::uint32_t word) const {
    if (numbers.p == kP31) word &= kP31;
    if (word >= numbers.p) word -= numbers.p;
    return static_cast<std::int32_t>(word <= numbers.centre ? word : word - numbers.p);
  }
};

// Geometry of a convolution over channels-last tensors (model::Conv), with the rows of its output
// (image, y, x) counted through.
struct Geometry {
  std::uint32_t in_h = 1, in_w = 1, in_c = 1;
  std::uint32_t out_h = 1, out_w = 1, out_c = 1;
  std::uint32_t kernel_h = 1, kernel_w = 1;
  std::uint32_t stride_h = 1, stride_w = 1;
  std::uint32_t dilation_h = 1, dilation_w = 1;
  std::uint32_t pad_top = 0, pad_left = 0;
  std::uint32_t groups = 1;

  // source finds the element of channel 0 that tap `tap` of output row `row` reads; false: none.
  SLALOM_HD bool source(std::uint32_t row, std::uint32_t tap, std::size_t& element) const {
    const std::uint32_t x = row % out_w;
    const std::uint32_t y = row / out_w % out_h;
    const std::uint32_t image = row / (out_w * out_h);
    const std::uint32_t at_y = y * stride_h + tap / kernel_w * dilation_h - pad_top;
    const std::uint32_t at_x = x * stride_w + tap % kernel_w * dilation_w - pad_left;
    if (at_y >= in_h || at_x >= in_w) return false;  // negative ones are huge
    element = ((static_cast<std::size_t>(image) * in_h + at_y) * in_w + at_x) * in_c;
    return true;
  }
};

// Sixteen is a vector register of a GPU; memory behind a pointer to it is 16-byte aligned.
struct alignas(16) Sixteen {
  std::uint32_t u[4];
};

// Gather writes the matrix of a convolution (im2col), digit by digit: row r of plane d holds digit
// d of all in_c * taps inputs of output row first_row + r, tap after tap, then zeros up to `depth`.
struct Gather {
  Tensor in;
  Geometry shape;
  std::int32_t padding = 0;  // value of a tap outside of the input
  std::uint32_t first_row = 0, rows = 0;
  std::uint32_t digits = 1;  // planes: 1 for codes
  std::uint32_t terms = 0;   // in_c * taps
  std::uint32_t depth = 0;   // terms rounded up to kGroup
  std::int8_t* out = nullptr;

  [[nodiscard]] SLALOM_HD std::size_t count() const {
    return static_cast<std::size_t>(rows) * (depth / kGroup);
  }

  SLALOM_HD void operator()(std::size_t i) const {
    const auto row = static_cast<std::uint32_t>(i / (depth / kGroup));
    const auto first = static_cast<std::uint32_t>(i % (depth / kGroup)) * kGroup;
    std::int32_t v[kGroup];
    if (shape.in_c % kGroup == 0) {
      load_group(first_row + row, first, v);
    } else {
      for (std::uint32_t j = 0; j < kGroup; ++j) v[j] = load_one(first_row + row, first + j);
    }
    for (std::uint32_t d = 0; d < digits; ++d) {
      Sixteen packed{};
      for (std::uint32_t j = 0; j < kGroup; ++j) {
        const auto digit = static_cast<std::int8_t>(v[j]);
        packed.u[j / 4] |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(digit))
                           << (8 * (j % 4));
        v[j] = (v[j] - digit) >> 8;
      }
      const std::size_t at = (static_cast<std::size_t>(d) * rows + row) * depth + first;
      *reinterpret_cast<Sixteen*>(out + at) = packed;
    }
  }

 private:
  [[nodiscard]] SLALOM_HD std::int32_t load_one(std::uint32_t row, std::uint32_t term) const {
    if (term >= terms) return 0;
    std::size_t element = 0;
    if (!shape.source(row, term / shape.in_c, element)) return padding;
    return in.value(element + term % shape.in_c);
  }
  // Sixteen channels of one tap: whole registers in, because in_c is a multiple of sixteen.
  SLALOM_HD void load_group(std::uint32_t row, std::uint32_t first, std::int32_t* v) const {
    std::size_t element = 0;
    if (!shape.source(row, first / shape.in_c, element)) {
      for (std::uint32_t j = 0; j < kGroup; ++j) v[j] = padding;
      return;
    }
    element += first % shape.in_c;
    if (in.format == Format::kCodes) {
      const Sixteen raw = *reinterpret_cast<const Sixteen*>(in.data + element);
      for (std::uint32_t j = 0; j < kGroup; ++j) {
        v[j] = static_cast<std::int32_t>((raw.u[j / 4] >> (8 * (j % 4))) & 0xffU) - 128;
      }
      return;
    }
    if (in.format == Format::kPacked && in.numbers.digits == 3) {
      const auto* at = reinterpret_cast<const Sixteen*>(in.data + 3 * element);
      Sixteen raw[3];
      for (int r = 0; r < 3; ++r) raw[r] = at[r];
      const std::uint32_t* u = raw[0].u;
      for (std::uint32_t j = 0; j < kGroup; ++j) {
        const std::uint32_t bit = 24 * j;
        const std::uint64_t pair =
            u[bit / 32] | (bit / 32 + 1 < 12 ? std::uint64_t{u[bit / 32 + 1]} << 32 : 0);
        v[j] = in.centred(static_cast<std::uint32_t>(pair >> (bit % 32)) & 0xffffffU);
      }
      return;
    }
    const auto* at = reinterpret_cast<const Sixteen*>(in.data + 4 * element);
    for (std::size_t r = 0; r < 4; ++r) {
      const Sixteen raw = at[r];
      for (std::uint32_t j = 0; j < 4; ++j) v[4 * r + j] = in.centred(raw.u[j]);
    }
  }
};

// Output is where words of a layer go: packed for the wire, or wide for a second stage.
struct Output {
  std::uint8_t* data = nullptr;
  Format format = Format::kPacked;
  Numbers numbers;

  SLALOM_HD void store(std::size_t i, std::uint32_t word) const {
    if (format == Format::kWide || numbers.digits == 4) {
      reinterpret_cast<std::uint32_t*>(data)[i] = word;
      return;
    }
    std::uint8_t* at = data + 3 * i;
    for (std::uint32_t b = 0; b < 3; ++b) at[b] = static_cast<std::uint8_t>(word >> (8 * b));
  }
  // store_group stores kGroup words at a multiple of kGroup.
  SLALOM_HD void store_group(std::size_t i, const std::uint32_t* word) const {
    if (format == Format::kWide || numbers.digits == 4) {
      auto* at = reinterpret_cast<Sixteen*>(data + 4 * i);
      for (std::size_t r = 0; r < 4; ++r) {
        at[r] = {{word[4 * r], word[4 * r + 1], word[4 * r + 2], word[4 * r + 3]}};
      }
      return;
    }
    std::uint32_t u[12];
    for (std::size_t g = 0; g < 4; ++g) {
      const std::uint32_t* w = word + 4 * g;
      u[3 * g] = w[0] | w[1] << 24;
      u[3 * g + 1] = w[1] >> 8 | w[2] << 16;
      u[3 * g + 2] = w[2] >> 16 | w[3] << 8;
    }
    auto* at = reinterpret_cast<Sixteen*>(data + 3 * i);
    for (std::size_t r = 0; r < 3; ++r) {
      at[r] = {{u[4 * r], u[4 * r + 1], u[4 * r + 2], u[4 * r + 3]}};
    }
  }
};

// Recombine puts the digits' sums together: word = sum over d of 256^d * sums[d], mod p.
struct Recombine {
  const std::int32_t* sums = nullptr;  // [digits][rows][stride]
  std::uint32_t digits = 1;
  std::uint32_t first_row = 0, rows = 0;
  std::uint32_t columns = 0;  // output channels
  std::uint32_t stride = 0;   // columns rounded up to kGroup
  Output out;                 // [..][columns], from row first_row on

  [[nodiscard]] SLALOM_HD std::size_t count() const {
    return static_cast<std::size_t>(rows) * (stride / kGroup);
  }

  SLALOM_HD void operator()(std::size_t i) const {
    const std::size_t row = i / (stride / kGroup);
    const auto first = static_cast<std::uint32_t>(i % (stride / kGroup)) * kGroup;
    std::int64_t v[kGroup] = {};
    for (std::uint32_t d = digits; d-- > 0;) {
      const auto* at = reinterpret_cast<const Sixteen*>(
          sums + (static_cast<std::size_t>(d) * rows + row) * stride + first);
      for (std::size_t r = 0; r < 4; ++r) {
        const Sixteen raw = at[r];
        for (std::uint32_t j = 0; j < 4; ++j) {
          v[4 * r + j] = v[4 * r + j] * 256 + static_cast<std::int32_t>(raw.u[j]);
        }
      }
    }
    std::uint32_t word[kGroup];
    for (std::uint32_t j = 0; j < kGroup; ++j) word[j] = reduce(v[j], out.numbers.p);
    const std::size_t to = (first_row + row) * columns + first;
    if (columns % kGroup == 0) {
      out.store_group(to, word);
      return;
    }
    for (std::uint32_t j = 0; j < kGroup && first + j < columns; ++j) out.store(to + j, word[j]);
  }
};

// Direct computes a convolution term by term: depthwise and grouped ones, whose sums are too short
// for a matrix product. weights: [out_c][taps][in_c / groups].
struct Direct {
  Tensor in;
  Geometry shape;
  std::int32_t padding = 0;
  std::uint32_t rows = 0;
  const std::int8_t* weights = nullptr;
  Output out;

  [[nodiscard]] SLALOM_HD std::size_t count() const {
    return static_cast<std::size_t>(rows) * shape.out_c;
  }

  SLALOM_HD void operator()(std::size_t i) const {
    const auto row = static_cast<std::uint32_t>(i / shape.out_c);
    const auto channel = static_cast<std::uint32_t>(i % shape.out_c);
    const std::uint32_t terms = shape.in_c / shape.groups;
    const std::uint32_t first = channel / (shape.out_c / shape.groups) * terms;
    const std::uint32_t taps = shape.kernel_h * shape.kernel_w;
    const std::int8_t* w = weights + static_cast<std::size_t>(channel) * taps * terms;
    std::int64_t sum = 0;
    for (std::uint32_t tap = 0; tap < taps; ++tap) {
      std::size_t element = 0;
      const bool inside = shape.source(row, tap, element);
      for (std::uint32_t t = 0; t < terms; ++t, ++w) {
        const std::int32_t value = inside ? in.value(element + first + t) : padding;
        sum += static_cast<std::int64_t>(*w) * value;
      }
    }
    out.store(i, reduce(sum, out.numbers.p));
  }
};

}  // namespace slalom::device::gpu
