// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "support/plans.h"

// Random valid plans in which every operator, every geometry of a Linear, broadcasting, shared
// inputs, several outputs and integer outputs occur.

namespace slalom::testing {

class RandomPlan {
 public:
  explicit RandomPlan(unsigned seed) : random_(seed), builder_(seed + 1) {}

  model::Plan make(int nodes) {
    add_input();
    if (chance(4)) add_input();
    for (int i = 0; i < nodes; ++i) append();
    std::vector<model::TensorId> outputs = {live_.back()};
    if (chance(2)) outputs.push_back(any());
    outputs.insert(outputs.end(), integers_.begin(), integers_.end());
    share_fields();
    return builder_.finish(outputs);
  }

 private:
  using Id = model::TensorId;

  // Layers that read one tensor have one field: the larger.
  void share_fields() {
    std::vector<field::Field> needed(builder_.plan().tensors.size(), field::Field::kP24);
    for (const int round : {0, 1}) {
      for (model::Node& node : builder_.plan().nodes) {
        auto* linear = std::get_if<model::Linear>(&node.op);
        if (linear == nullptr || !linear->field) continue;
        field::Field& f = needed[node.inputs[0]];
        if (round == 0) f = std::max(f, *linear->field);
        linear->field = f;
      }
    }
  }

  std::uint32_t draw(std::uint32_t lo, std::uint32_t hi) {
    return std::uniform_int_distribution<std::uint32_t>(lo, hi)(random_);
  }
  bool chance(std::uint32_t one_in) { return draw(1, one_in) == 1; }
  float real(float lo, float hi) { return std::uniform_real_distribution<float>(lo, hi)(random_); }
  Id any() { return live_[draw(0, static_cast<std::uint32_t>(live_.size()) - 1)]; }
  // recent prefers late tensors, so that plans are deep, but still gives shared ones.
  Id recent() { return chance(3) ? any() : live_.back(); }
  const model::Shape& shape(Id id) { return builder_.shape(id); }
  model::TensorInfo& info(Id id) { return builder_.plan().tensors[id]; }
  std::vector<std::uint8_t> bytes(std::size_t n) {
    std::vector<std::uint8_t> out(n);
    for (auto& b : out) b = static_cast<std::uint8_t>(draw(0, 255));
    return out;
  }

  void add_input() {
    const std::uint32_t channels[] = {1, 3, 4, 8, 17, 32};
    const model::Shape s{draw(4, 13), draw(4, 13), channels[draw(0, 5)]};
    live_.push_back(builder_.input(s, static_cast<std::int32_t>(draw(0, 255))));
  }
  model::Window window(const model::Shape& in, bool pooling) {
    for (;;) {
      model::Window w;
      w.kernel_h = draw(1, std::min(3U, in.h));
      w.kernel_w = draw(1, std::min(3U, in.w));
      w.stride_h = draw(1, 2);
      w.stride_w = draw(1, 3);
      if (chance(3)) w.dilation_h = 2;
      if (chance(4)) w.dilation_w = 2;
      const std::uint32_t reach_h = (w.kernel_h - 1) * w.dilation_h;
      const std::uint32_t reach_w = (w.kernel_w - 1) * w.dilation_w;
      // With dilation a pooling window could miss the input; such plans are not valid.
      if (!pooling || (w.dilation_h == 1 && w.dilation_w == 1)) {
        w.pad_top = draw(0, reach_h);
        w.pad_bottom = draw(0, reach_h);
        w.pad_left = draw(0, reach_w);
        w.pad_right = draw(0, reach_w);
      }
      if (in.h + w.pad_top + w.pad_bottom > reach_h && in.w + w.pad_left + w.pad_right > reach_w) {
        return w;
      }
    }
  }
  // finish gives the newest tensor another scale's zero point and, rarely, makes it an integer
  // output.
  Id requantised(Id id, bool may_widen) {
    info(id).zero_point = static_cast<std::int32_t>(draw(0, 255));
    if (may_widen && chance(8)) {
      info(id).dtype = model::Dtype::kI32;
      info(id).zero_point = 0;
      integers_.push_back(id);
    } else {
      live_.push_back(id);
    }
    return id;
  }
  template <class Op>
  void clamp(Op& op) {
    if (chance(2)) op.lo = static_cast<std::int32_t>(draw(0, 60));
    if (chance(2)) op.hi = static_cast<std::int32_t>(draw(150, 255));
  }

  void append() {
    switch (draw(0, 17)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return linear();
      case 5:
      case 6:
        return binary();
      case 7:
        return table();
      case 8:
        return prelu();
      case 9:
        return max_pool();
      case 10:
        return average_pool();
      case 11:
        return concat();
      case 12:
        return pad();
      case 13:
        return slice();
      case 14:
        return transpose();
      case 15:
        return reshape();
      case 16:
        return softmax();
      default:
        return lrn();
    }
  }

  void linear() {
    const Id in = recent();
    const model::Shape s = shape(in);
    PlanBuilder::ConvOptions o;
    o.out_c = draw(1, 20);
    o.out_zero_point = static_cast<std::int32_t>(draw(0, 60));
    o.local = chance(6);
    o.integers = chance(8);
    if (!o.integers && chance(3)) o.table = bytes(256);
    const std::uint32_t form = draw(0, 5);
    if (form == 1) o.window = window(s, false);
    if (form == 2) {  // depthwise, sometimes with two outputs a channel
      o.window = window(s, false);
      o.groups = s.c;
      o.out_c = s.c * draw(1, 2);
    }
    if (form == 3) {  // grouped
      o.window = window(s, false);
      for (std::uint32_t g : {4U, 2U, 1U}) {
        if (s.c % g == 0) {
          o.groups = g;
          break;
        }
      }
      o.out_c = o.groups * draw(1, 5);
    }
    if (form == 4) {  // the whole image at once
      o.window.kernel_h = s.h;
      o.window.kernel_w = s.w;
    }
    Id out = 0;
    if (form == 5) {
      o.window = window(s, false);
      out = builder_.separable(in, o);
    } else {
      out = builder_.conv(in, o);
    }
    (o.integers ? integers_ : live_).push_back(out);
  }
  // partner is a tensor whose shape broadcasts with s.
  Id partner(const model::Shape& s) {
    std::vector<Id> fits;
    for (const Id id : live_) {
      const auto& t = shape(id);
      const bool ok = (t.h == s.h || t.h == 1 || s.h == 1) &&
                      (t.w == s.w || t.w == 1 || s.w == 1) && (t.c == s.c || t.c == 1 || s.c == 1);
      if (ok && t.elements() * s.elements() < 4'000'000) fits.push_back(id);
    }
    if (!fits.empty() && !chance(3)) {
      return fits[draw(0, static_cast<std::uint32_t>(fits.size()) - 1)];
    }
    const model::Shape c{chance(2) ? s.h : 1, chance(2) ? s.w : 1, chance(2) ? s.c : 1};
    return constant(c);
  }
  Id constant(const model::Shape& s) {
    return builder_.node({}, model::Constant{bytes(s.elements())}, s, live_.back());
  }
  void binary() {
    const Id a = recent();
    const Id b = partner(shape(a));
    const auto& s = shape(a);
    const auto& t = shape(b);
    const model::Shape out{std::max(s.h, t.h), std::max(s.w, t.w), std::max(s.c, t.c)};
    if (out.elements() > 20'000) return max_pool();
    const bool swap = chance(2);
    const std::vector<Id> in = swap ? std::vector<Id>{b, a} : std::vector<Id>{a, b};
    if (chance(2)) {
      model::Add op{.multiplier_a = real(0.1F, 1.0F), .multiplier_b = real(-1.0F, 1.0F)};
      clamp(op);
      requantised(builder_.node(in, op, out, a), true);
    } else {
      model::Mul op{.multiplier = real(0.002F, 0.02F)};
      clamp(op);
      requantised(builder_.node(in, op, out, a), true);
    }
  }
  void table() {
    const Id in = recent();
    requantised(builder_.node({in}, model::Table{bytes(256)}, shape(in), in), false);
  }
  void prelu() {
    const Id in = recent();
    model::Prelu op{.positive = real(0.5F, 1.5F), .negative = {}};
    op.negative.resize(shape(in).c);
    for (float& v : op.negative) v = real(-0.5F, 1.0F);
    clamp(op);
    requantised(builder_.node({in}, op, shape(in), in), true);
  }
  void max_pool() {
    const Id in = recent();
    live_.push_back(builder_.max_pool(in, window(shape(in), true)));
  }
  void average_pool() {
    const Id in = recent();
    const auto s = shape(in);
    model::AveragePool op{.window = window(s, true), .count_padding = chance(2)};
    if (chance(3)) op.window = {.kernel_h = s.h, .kernel_w = s.w};
    op.multiplier = real(0.5F, 2.0F);
    clamp(op);
    const auto out = PlanBuilder::pooled(s, op.window, s.c);
    requantised(builder_.node({in}, op, out, in), true);
  }
  void concat() {
    const Id first = recent();
    const std::uint8_t axis = static_cast<std::uint8_t>(draw(0, 2));
    model::Shape out = shape(first);
    std::vector<Id> in = {first};
    for (const Id id : live_) {
      const auto& t = shape(id);
      const auto& s = out;
      if (in.size() == 4 || t.elements() > 5000) break;
      const bool ok =
          (axis == 0 || t.h == s.h) && (axis == 1 || t.w == s.w) && (axis == 2 || t.c == s.c);
      if (!ok) continue;
      in.push_back(id);
      (axis == 0 ? out.h : axis == 1 ? out.w : out.c) += axis == 0 ? t.h : axis == 1 ? t.w : t.c;
    }
    model::Concat op{.axis = axis, .multiplier = std::vector<float>(in.size(), 1.0F)};
    const Id id = builder_.node(in, op, out, first);
    auto& node = std::get<model::Concat>(builder_.plan().nodes.back().op);
    for (std::size_t i = 0; i < in.size(); ++i) {
      const bool same =
          info(in[i]).scale == info(id).scale && info(in[i]).zero_point == info(id).zero_point;
      if (!same) node.multiplier[i] = real(0.4F, 1.6F);
    }
    live_.push_back(id);
  }
  void pad() {
    const Id in = recent();
    const auto& s = shape(in);
    model::Pad op{.before = {draw(0, 2), draw(0, 2), draw(0, 1)},
                  .after = {draw(0, 2), draw(0, 1), draw(0, 2)},
                  .code = static_cast<std::uint8_t>(draw(0, 255))};
    const model::Shape out{s.h + op.before[0] + op.after[0], s.w + op.before[1] + op.after[1],
                           s.c + op.before[2] + op.after[2]};
    live_.push_back(builder_.node({in}, op, out, in));
  }
  void slice() {
    const Id in = recent();
    const auto& s = shape(in);
    const std::uint32_t lengths[] = {s.h, s.w, s.c};
    std::uint32_t counts[3];
    model::Slice op;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      op.begin[axis] = draw(0, (lengths[axis] - 1) / 2);
      op.step[axis] = draw(1, 2);
      counts[axis] = (lengths[axis] - 1 - op.begin[axis]) / op.step[axis] + 1;
    }
    live_.push_back(builder_.node({in}, op, {counts[0], counts[1], counts[2]}, in));
  }
  void transpose() {
    const Id in = recent();
    model::Transpose op;
    std::shuffle(op.perm.begin(), op.perm.end(), random_);
    const auto& s = shape(in);
    const std::uint32_t lengths[] = {s.h, s.w, s.c};
    live_.push_back(builder_.node(
        {in}, op, {lengths[op.perm[0]], lengths[op.perm[1]], lengths[op.perm[2]]}, in));
  }
  void reshape() {
    const Id in = recent();
    const auto& s = shape(in);
    const auto n = static_cast<std::uint32_t>(s.elements());
    const model::Shape forms[] = {{1, 1, n}, {1, s.h, s.w * s.c}, {s.w, s.h, s.c}};
    live_.push_back(builder_.reshape(in, forms[draw(0, 2)]));
  }
  void softmax() {
    const Id in = recent();
    model::Softmax op;
    op.table.resize(256);
    const double scale = real(0.01F, 0.3F);
    for (std::size_t d = 0; d < 256; ++d) {
      op.table[d] = static_cast<std::uint32_t>(
          std::lround(16777216.0 * std::exp(-scale * static_cast<double>(d))));
    }
    const Id id = builder_.node({in}, op, shape(in), in);
    info(id).scale = 1.0F / 256;
    info(id).zero_point = 0;
    live_.push_back(id);
  }
  void lrn() {
    const Id in = recent();
    model::Lrn op{.size = 2 * draw(0, 4) + 1,
                  .beta_quarters = static_cast<std::uint8_t>(draw(2, 4)),
                  .alpha = real(0.0F, 0.01F),
                  .bias = real(0.5F, 2.0F),
                  .multiplier = real(0.5F, 2.0F)};
    clamp(op);
    requantised(builder_.node({in}, op, shape(in), in), true);
  }

  std::mt19937 random_;
  PlanBuilder builder_;
  std::vector<Id> live_;      // u8 tensors
  std::vector<Id> integers_;  // i32 tensors: outputs only
};

inline model::Plan random_plan(unsigned seed, int nodes = 12) {
  return RandomPlan(seed).make(nodes);
}

}  // namespace slalom::testing
