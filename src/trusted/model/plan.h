// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "field/prime.h"
#include "slalom/result.h"

// The plan: one quantised network, everything that affects its answers, and nothing else.
//
// Values. Every tensor is per image (the batch is not part of a shape), stored channels-last:
// element (y, x, c) of a Shape{h, w, c} is at (y*w + x)*c_count + c. A vector of n features is {1,
// 1, n}, a sequence of s rows of n features {1, s, n}. A u8 tensor holds codes q; its real value is
// scale * (q - zero_point). An i32 tensor holds integers whose real value is scale * q.
//
// Rounding. "requantise(v, zp, lo, hi)" below is clamp(round_to_nearest_even(v) + zp, lo, hi),
// where v is a binary32 value; every binary32 operation named in this file is one IEEE 754
// operation, rounded to nearest even, never contracted. A binary32 v is clamped to [-2^30, 2^30]
// before it becomes an integer. These rules give the same bits on every processor.

namespace slalom::model {

struct Shape {
  std::uint32_t h = 1;
  std::uint32_t w = 1;
  std::uint32_t c = 1;

  [[nodiscard]] std::size_t positions() const noexcept { return static_cast<std::size_t>(h) * w; }
  [[nodiscard]] std::size_t elements() const noexcept { return positions() * c; }
  friend bool operator==(const Shape&, const Shape&) = default;
};

enum class Dtype : std::uint8_t { kU8 = 1, kI32 = 2 };
// range_of names the first and the last value of an enumeration, for the reader of archives.
constexpr auto range_of(Dtype) { return std::pair(Dtype::kU8, Dtype::kI32); }

using TensorId = std::uint32_t;

struct TensorInfo {
  std::string name;
  Shape shape;
  Dtype dtype = Dtype::kU8;
  float scale = 1.0F;           // finite, > 0
  std::int32_t zero_point = 0;  // 0..255 for u8, 0 for i32
};

// Window is the geometry of a convolution or pooling: kernel taps, strides, dilations and the
// padding added at each side, in elements.
struct Window {
  std::uint32_t kernel_h = 1, kernel_w = 1;
  std::uint32_t stride_h = 1, stride_w = 1;
  std::uint32_t dilation_h = 1, dilation_w = 1;
  std::uint32_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  friend bool operator==(const Window&, const Window&) = default;
};

// Conv is the geometry of one convolution over channels-last tensors. groups == in.c with
// out.c a multiple of it is a depthwise convolution; a dense layer is a 1x1 convolution.
//   weights: int8 in -127..127, [out.c][kernel_h][kernel_w][in.c / groups]
//   Y[y][x][o] = sum over taps and the group's channels of w * code, code = q - 128,
//   where a tap outside the input reads the padding code (zero_point of the input) - 128.
struct Conv {
  Shape in;
  Shape out;
  Window window;
  std::uint32_t groups = 1;

  [[nodiscard]] std::size_t taps() const noexcept {
    return static_cast<std::size_t>(window.kernel_h) * window.kernel_w;
  }
  [[nodiscard]] std::size_t group_in() const noexcept { return in.c / groups; }
  [[nodiscard]] std::size_t group_out() const noexcept { return out.c / groups; }
  // terms is the length of one output's sum; weights the number of weights.
  [[nodiscard]] std::size_t terms() const noexcept { return taps() * group_in(); }
  [[nodiscard]] std::size_t weights() const noexcept { return terms() * out.c; }
  [[nodiscard]] bool depthwise() const noexcept { return groups == in.c && groups > 1; }
  friend bool operator==(const Conv&, const Conv&) = default;
};

struct ConvStage {
  Conv conv;
  std::vector<std::int8_t> weights;
};

// Requant turns an int32 accumulator into the output tensor's codes:
//   v = f32(acc) * multiplier[channel]; q = requantise(v, zero_point, lo, hi);
//   then, if a table is present (u8 outputs only), q = table[q].
// zero_point, lo and hi are in the codes before the table.
struct Requant {
  std::vector<float> multiplier;  // one per output channel (or one for all); finite, > 0
  std::int32_t zero_point = 0;
  std::int32_t lo = 0;
  std::int32_t hi = 255;
  std::vector<std::uint8_t> table;  // empty or 256 entries
};

// Linear is the one operator that a device may be asked to compute: a convolution (or dense layer),
// or a separable pair (stage 0 depthwise, stage 1 pointwise) composed without rounding between
// them.
//   acc[o] = Y[o] + bias[o], where Y is the exact integer sum on codes c = q - 128.
// In a separable pair stage 0 pads as above and stage 1 (1x1, no padding) multiplies the exact
// sums. field is the smallest field whose range holds every |Y| < p/2, as proven by the decoder;
// without one the layer always stays in the trusted process. |Y| + |bias| < 2^31 holds for all
// layers. All Linear nodes that read one tensor and have a field have the same field.
struct Linear {
  std::vector<ConvStage> stages;  // one or two
  std::vector<std::int32_t> bias;
  std::optional<field::Field> field;
  Requant requant;

  [[nodiscard]] const Shape& in() const noexcept { return stages.front().conv.in; }
  [[nodiscard]] const Shape& out() const noexcept { return stages.back().conv.out; }
};

// Add is elementwise with broadcasting of operands whose dimension is 1:
//   q = requantise(f32(a - za)*ma + f32(b - zb)*mb, ...), two products, one sum, in this order.
struct Add {
  float multiplier_a = 1.0F;
  float multiplier_b = 1.0F;  // negative for a subtraction
  std::int32_t lo = 0, hi = 255;
};
// Mul is elementwise with broadcasting: q = requantise(f32((a - za)*(b - zb)) * multiplier, ...).
struct Mul {
  float multiplier = 1.0F;
  std::int32_t lo = 0, hi = 255;
};
// Table applies a 256-entry table to each code: q = table[a].
struct Table {
  std::vector<std::uint8_t> table;
};
// Prelu: q = requantise(f32(a - za) * (a >= za ? positive : negative[channel]), ...).
struct Prelu {
  float positive = 1.0F;
  std::vector<float> negative;  // one per channel
  std::int32_t lo = 0, hi = 255;
};
// MaxPool takes the largest code in the window; taps outside the input do not take part. The output
// tensor has the input's scale and zero point.
struct MaxPool {
  Window window;
};
// AveragePool: q = requantise(f32(sum of (a - za)) * f32(multiplier / f32(n)), ...), where n is the
// number of taps inside the input, or, if count_padding, inside the padded input (as in ONNX).
struct AveragePool {
  Window window;
  bool count_padding = false;
  float multiplier = 1.0F;
  std::int32_t lo = 0, hi = 255;
};
// Concat joins operands along axis (0 = h, 1 = w, 2 = c): q = requantise(f32(a - za)*multiplier[i],
// ...). An operand with the output's scale and zero point has multiplier 1 and is copied.
struct Concat {
  std::uint8_t axis = 2;
  std::vector<float> multiplier;  // one per operand
};
// Pad surrounds the tensor with a constant code; before and after are in h, w, c order.
struct Pad {
  std::array<std::uint32_t, 3> before{};
  std::array<std::uint32_t, 3> after{};
  std::uint8_t code = 0;
};
// Slice keeps elements begin + i*step of each axis (h, w, c); the output shape gives the counts.
struct Slice {
  std::array<std::uint32_t, 3> begin{};
  std::array<std::uint32_t, 3> step{1, 1, 1};
};
// Transpose: output axis i is input axis perm[i], axes in h, w, c order.
struct Transpose {
  std::array<std::uint8_t, 3> perm{0, 1, 2};
};
// Reshape keeps the order of elements in memory and changes the shape only.
struct Reshape {};
// Softmax over axis c with fixed-point exponentials: e_i = table[max - a_i], S = sum e_i,
// q_i = min(255, round_to_nearest_even(f64(e_i) * 256.0 / f64(S))): output scale 1/256, zero point
// 0. table[d] is round(2^24 exp(-scale*d)); table[0] = 2^24.
struct Softmax {
  std::vector<std::uint32_t> table;  // 256 entries, non-increasing
};
// Lrn (local response normalisation across channels, as in ONNX): with t = sum over the window of
// (a - za)^2 (exact, int32), d = bias + f32(t)*alpha, n = d^beta by square roots:
//   beta 2: sqrt(d), beta 3: sqrt(d)*sqrt(sqrt(d)), beta 4: d;   (beta counts quarters)
//   q = requantise((f32(a - za) / n) * multiplier, ...).
struct Lrn {
  std::uint32_t size = 1;  // odd
  std::uint8_t beta_quarters = 3;
  float alpha = 0.0F;  // already divided by size and multiplied by the squared input scale
  float bias = 1.0F;   // > 0
  float multiplier = 1.0F;
  std::int32_t lo = 0, hi = 255;
};
// Constant gives a tensor whose codes are in the plan.
struct Constant {
  std::vector<std::uint8_t> codes;
};

// The order of the alternatives is the format's op number. DO NOT CHANGE IT, append only.
using Op = std::variant<Linear, Add, Mul, Table, Prelu, MaxPool, AveragePool, Concat, Pad, Slice,
                        Transpose, Reshape, Softmax, Lrn, Constant>;

struct Node {
  std::string name;
  std::vector<TensorId> inputs;
  TensorId output = 0;
  Op op;
};

// Preprocess says how a picture becomes the input tensor. It is applied by whoever holds the
// picture, never by the trusted process, and is part of the digest: resize, crop, then per channel
//   real = (value - mean) / std with value in 0..255, q = requantise(f32(real / scale), zero_point,
//   0, 255).
enum class Interpolation : std::uint8_t { kNearest = 0, kBilinear = 1, kBicubic = 2 };
constexpr auto range_of(Interpolation) {
  return std::pair(Interpolation::kNearest, Interpolation::kBicubic);
}
struct Preprocess {
  std::uint32_t resize_shorter = 0;  // 0: stretch to the crop size
  std::uint32_t crop_h = 0, crop_w = 0;
  Interpolation interpolation = Interpolation::kBilinear;
  bool bgr = false;
  std::vector<float> mean, std;  // one per channel (1 or 3)
};

// Final names the function that the network's float original applied last and the plan left out; it
// never changes the order of the scores.
enum class Final : std::uint8_t { kNone = 0, kSoftmax = 1, kLogSoftmax = 2 };
constexpr auto range_of(Final) { return std::pair(Final::kNone, Final::kLogSoftmax); }

struct Output {
  TensorId tensor = 0;
  Final function = Final::kNone;
};

using Digest = std::array<std::byte, 32>;

struct Plan {
  std::string name;
  std::vector<TensorInfo> tensors;
  std::vector<TensorId> inputs;
  std::vector<Output> outputs;
  std::vector<Node> nodes;  // topological order; each tensor but the inputs is written exactly once
  std::optional<Preprocess> preprocess;
  std::vector<std::string> labels;  // empty, or one per element of the first output
};

inline constexpr std::uint32_t kPlanVersion = 1;

// encode_plan writes the canonical bytes. REQUIRES: validate(plan).
[[nodiscard]] std::vector<std::byte> encode_plan(const Plan& plan);

// decode_plan reads a plan, all or nothing: trailing bytes, unknown versions, wrong digests and any
// breach of validate() are kMalformed. The bytes must be private memory.
// decode(encode(p)) == p and encode(decode(b)) == b.
[[nodiscard]] Result<Plan> decode_plan(std::span<const std::byte> bytes);

// plan_digest is SHA-256 over the encoded plan without the digest that closes it: its identity.
[[nodiscard]] Result<Digest> plan_digest(std::span<const std::byte> bytes);

// validate checks every rule that this file states: shapes, windows, ranges of parameters, graph
// order, and the bounds of every Linear, which it recomputes. Nothing in a validated plan can
// overflow.
[[nodiscard]] Status validate(const Plan& plan);

// sum_bound returns, for each output channel, the largest |Y| over all inputs (codes -128..127 and
// the padding code, which is one of them), saturated at INT64_MAX.
[[nodiscard]] std::vector<std::int64_t> sum_bound(const Linear& linear);

}  // namespace slalom::model
