// SPDX-License-Identifier: Apache-2.0
// Pad (Pad-11 to Pad-21): constant, reflected, edge and wrapped values around, or cropping.
#include <algorithm>
#include <cstring>

#include "importer/ops/axes.h"
#include "importer/ops/op.h"
#include "importer/ops/pad.h"

namespace slalom::importer {
namespace {

constexpr std::int64_t kMaxPad = std::int64_t{1} << 40;
constexpr std::int64_t kFilled = -1;  // in a source map: not from the input

enum class Mode : std::uint8_t { kConstant, kReflect, kEdge, kWrap };

Mode mode_of(const Node& node) {
  const std::string text = node.string_or("mode", "constant");
  if (text == "constant") return Mode::kConstant;
  if (text == "reflect") return Mode::kReflect;
  if (text == "edge") return Mode::kEdge;
  if (text == "wrap" && node.opset >= 19) return Mode::kWrap;
  fail("the mode '" + text + "' does not exist");
}

// source_map lists for each output index along a dimension the input index it copies.
std::vector<std::int64_t> source_map(std::int64_t dim, PadAmount pad, Mode mode) {
  std::vector<std::int64_t> map;
  map.reserve(static_cast<std::size_t>(dim + pad.begin + pad.end));
  for (std::int64_t i = -pad.begin; i < dim + pad.end; ++i) {
    if (i >= 0 && i < dim) {
      map.push_back(i);
    } else if (mode == Mode::kConstant) {
      map.push_back(kFilled);
    } else if (mode == Mode::kEdge) {
      map.push_back(std::clamp<std::int64_t>(i, 0, dim - 1));
    } else if (mode == Mode::kReflect) {
      map.push_back(i < 0 ? -i : 2 * (dim - 1) - i);
    } else {
      map.push_back((i % dim + dim) % dim);
    }
  }
  return map;
}

void check_amount(std::int64_t dim, PadAmount pad, Mode mode) {
  if (std::min(pad.begin, pad.end) < -kMaxPad || std::max(pad.begin, pad.end) > kMaxPad) {
    fail("a pad is too large");
  }
  if (dim + pad.begin + pad.end < 0 || dim + pad.begin < 0 || dim + pad.end < 0) {
    fail("a negative pad removes more than there is");
  }
  if (mode == Mode::kConstant || (pad.begin == 0 && pad.end == 0)) return;
  if (pad.begin < 0 || pad.end < 0) fail("a negative pad needs the mode constant");
  if (dim == 0) fail("an empty dimension can only be padded with a constant");
  if (mode == Mode::kReflect && std::max(pad.begin, pad.end) >= dim) {
    fail("a reflecting pad is as large as the dimension");
  }
}

std::vector<TensorType> infer_pad(const InferContext& context) {
  const Mode mode = mode_of(context.node());
  const auto pads = pad_amounts(context);
  if (context.has(2)) {
    context.want_dtype(2, {context.dtype(0)});
    if (element_count(context.shape(2)) != 1) fail("the value to pad with is not a scalar");
  }
  TensorType type = context.type(0);
  for (std::size_t d = 0; d < pads.size(); ++d) {
    check_amount(type.shape[d], pads[d], mode);
    type.shape[d] += pads[d].begin + pads[d].end;
  }
  return {type};
}

// Copier walks the output's dimensions, outermost first.
struct Copier {
  const std::vector<std::vector<std::int64_t>>& maps;
  const Shape& in;
  const std::byte* src;
  std::byte* dst;
  std::size_t bytes;  // of one element

  // copy places the elements below dimension d. `from` is the index of the input's block, or
  // kFilled if this part is filled already.
  void copy(std::size_t d, std::int64_t from) {
    if (d == maps.size()) {
      if (from != kFilled) std::memcpy(dst, src + static_cast<std::size_t>(from) * bytes, bytes);
      dst += bytes;
      return;
    }
    for (const std::int64_t i : maps[d]) {
      copy(d + 1, from == kFilled || i == kFilled ? kFilled : from * in[d] + i);
    }
  }
};

void pad(const EvalContext& context) {
  const auto inputs = known_inputs(context.inputs());
  const auto pads = pad_amounts(InferContext(context.node(), inputs));
  const Mode mode = mode_of(context.node());
  const Tensor& in = context.in(0);
  Tensor& out = context.out();
  if (out.size() == 0) return;
  std::vector<std::vector<std::int64_t>> maps;
  for (std::size_t d = 0; d < in.rank(); ++d) {
    maps.push_back(source_map(in.shape()[d], pads[d], mode));
  }
  const std::size_t bytes = element_bytes(in.dtype());
  if (mode == Mode::kConstant && context.has(2)) {
    const auto value = context.in(2).bytes();
    for (std::size_t at = 0; at < out.bytes().size(); at += bytes) {
      std::memcpy(out.bytes().data() + at, value.data(), bytes);
    }
  }
  Copier copier{.maps = maps,
                .in = in.shape(),
                .src = in.bytes().data(),
                .dst = out.bytes().data(),
                .bytes = bytes};
  copier.copy(0, 0);
}

}  // namespace

bool copies_inside(const Node& node) { return mode_of(node) != Mode::kConstant; }

std::vector<std::int64_t> pad_sources(const Node& node, std::int64_t dim, PadAmount amount) {
  return source_map(dim, amount, mode_of(node));
}

std::vector<PadAmount> pad_amounts(const InferContext& context) {
  const std::size_t rank = context.rank(0);
  const auto values = context.ints(1);
  std::vector<std::size_t> axes(rank);
  for (std::size_t d = 0; d < rank; ++d) axes[d] = d;
  if (context.has(3)) {
    const auto given = context.ints(3);
    (void)normalise_axes(given, rank);  // no axis twice
    axes.clear();
    for (const std::int64_t axis : given) axes.push_back(normalise_axis(axis, rank));
  }
  if (values.size() != 2 * axes.size()) {
    fail("there are " + std::to_string(values.size()) + " pads for " + std::to_string(axes.size()) +
         " dimensions");
  }
  std::vector<PadAmount> pads(rank);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    pads[axes[i]] = {.begin = values[i], .end = values[axes.size() + i]};
  }
  return pads;
}

OpDef pad_op() {
  return {.name = "Pad",
          .min_opset = 11,
          .max_opset = 21,
          .min_inputs = 2,
          .max_inputs = 4,
          .max_outputs = 1,
          .fold = FoldRule::kCheap,
          .attributes = {{.name = "mode", .kind = AttributeKind::kString}},
          .infer = infer_pad,
          .eval = pad};
}

}  // namespace slalom::importer
