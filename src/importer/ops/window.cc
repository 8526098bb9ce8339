// SPDX-License-Identifier: Apache-2.0
#include "importer/ops/window.h"

#include <string>
#include <string_view>
#include <vector>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

// Above this no dimension of a network lies, and sums of products of two stay far from overflow.
constexpr std::int64_t kMaxDim = std::int64_t{1} << 30;

// ints reads an attribute with one entry for each spatial dimension (`per_dim` of them).
std::vector<std::int64_t> ints(const Node& node, std::string_view key, std::size_t count,
                               std::int64_t otherwise, std::int64_t low) {
  std::vector<std::int64_t> values = node.ints_or(key, std::vector<std::int64_t>(count, otherwise));
  if (values.empty()) values.assign(count, otherwise);
  if (values.size() != count) {
    fail("the attribute " + std::string(key) + " has " + std::to_string(values.size()) +
         " entries, not " + std::to_string(count));
  }
  for (const std::int64_t value : values) {
    if (value < low || value > kMaxDim) {
      fail("the attribute " + std::string(key) + " holds " + std::to_string(value));
    }
  }
  return values;
}

enum class AutoPad : std::uint8_t { kNotSet, kValid, kSameUpper, kSameLower };

AutoPad auto_pad_of(const Node& node) {
  const std::string text = node.string_or("auto_pad", "NOTSET");
  if (text == "NOTSET") return AutoPad::kNotSet;
  if (text == "VALID") return AutoPad::kValid;
  if (text == "SAME_UPPER") return AutoPad::kSameUpper;
  if (text == "SAME_LOWER") return AutoPad::kSameLower;
  fail("auto_pad is '" + text + "'");
}

// base fills in everything but out, pads and (for the transposed case) the exchange of in.
Window base(const Node& node, std::span<const std::int64_t> in,
            std::span<const std::int64_t> kernel) {
  const std::size_t rank = in.size();
  if (rank < 1 || rank > kMaxSpatial) {
    fail("it has " + std::to_string(rank) + " spatial dimensions, not 1 to 3");
  }
  if (kernel.size() != rank) fail("the kernel's rank does not fit the input's");
  const auto strides = ints(node, "strides", rank, 1, 1);
  const auto dilations = ints(node, "dilations", rank, 1, 1);
  Window w;
  w.rank = rank;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::size_t d = kMaxSpatial - rank + i;
    if (in[i] < 1 || in[i] > kMaxDim)
      fail("the input has a spatial size of " + std::to_string(in[i]));
    if (kernel[i] < 1 || kernel[i] > kMaxDim) {
      fail("the kernel has a size of " + std::to_string(kernel[i]));
    }
    w.in[d] = in[i];
    w.kernel[d] = kernel[i];
    w.stride[d] = strides[i];
    w.dilation[d] = dilations[i];
  }
  return w;
}

// extent is the number of input positions from the first to the last tap.
std::int64_t extent(const Window& w, std::size_t d) {
  return (w.kernel[d] - 1) * w.dilation[d] + 1;
}

// share splits a total padding between both ends.
void share(Window& w, std::size_t d, std::int64_t total, bool more_at_end) {
  w.pad_begin[d] = more_at_end ? total / 2 : total - total / 2;
  w.pad_end[d] = total - w.pad_begin[d];
}

void read_pads(const Node& node, Window& w) {
  const auto pads = ints(node, "pads", 2 * w.rank, 0, 0);
  for (std::size_t i = 0; i < w.rank; ++i) {
    const std::size_t d = kMaxSpatial - w.rank + i;
    w.pad_begin[d] = pads[i];
    w.pad_end[d] = pads[w.rank + i];
  }
}

void set_out(Window& w, std::size_t d, bool ceil_mode) {
  const std::int64_t room = w.in[d] + w.pad_begin[d] + w.pad_end[d] - extent(w, d);
  if (room < 0) fail("the kernel is larger than the padded input");
  w.out[d] = room / w.stride[d] + 1;
  if (ceil_mode && room % w.stride[d] != 0 && w.out[d] * w.stride[d] < w.in[d] + w.pad_begin[d]) {
    ++w.out[d];
  }
}

}  // namespace

Window make_window(const Node& node, std::span<const std::int64_t> in,
                   std::span<const std::int64_t> kernel, bool ceil_mode) {
  Window w = base(node, in, kernel);
  const AutoPad mode = auto_pad_of(node);
  if (mode == AutoPad::kNotSet) read_pads(node, w);
  for (std::size_t d = kMaxSpatial - w.rank; d < kMaxSpatial; ++d) {
    if (mode == AutoPad::kSameUpper || mode == AutoPad::kSameLower) {
      w.out[d] = (w.in[d] + w.stride[d] - 1) / w.stride[d];
      const std::int64_t total = (w.out[d] - 1) * w.stride[d] + extent(w, d) - w.in[d];
      share(w, d, std::max<std::int64_t>(total, 0), mode == AutoPad::kSameUpper);
    } else {
      set_out(w, d, ceil_mode);
    }
  }
  return w;
}

Window make_transposed_window(const Node& node, std::span<const std::int64_t> in,
                              std::span<const std::int64_t> kernel) {
  Window w = base(node, in, kernel);
  w.out = w.in;
  const AutoPad mode = auto_pad_of(node);
  const auto extra = ints(node, "output_padding", w.rank, 0, 0);
  const auto wanted = ints(node, "output_shape", w.rank, 0, 0);
  if (mode == AutoPad::kNotSet) read_pads(node, w);
  for (std::size_t i = 0; i < w.rank; ++i) {
    const std::size_t d = kMaxSpatial - w.rank + i;
    const std::int64_t whole = w.stride[d] * (w.out[d] - 1) + extra[i] + extent(w, d);
    const bool same = mode == AutoPad::kSameUpper || mode == AutoPad::kSameLower;
    if (wanted[i] > 0 || same) {
      // SAME asks for stride times the input; where the kernel does not reach that far, ONNX
      // Runtime leaves it at what the kernel reaches.
      w.in[d] = wanted[i] > 0 ? wanted[i] : std::min(w.out[d] * w.stride[d], whole);
      share(w, d, std::max<std::int64_t>(whole - w.in[d], 0), mode == AutoPad::kSameUpper);
    } else {
      w.in[d] = whole - w.pad_begin[d] - w.pad_end[d];
    }
    if (w.in[d] < 1 || w.in[d] > kMaxDim)
      fail("the output has a spatial size of " + std::to_string(w.in[d]));
  }
  return w;
}

}  // namespace slalom::importer
