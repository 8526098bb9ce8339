// SPDX-License-Identifier: Apache-2.0
// Writes the corpus of fuzz/plan.cc: real plans, small, with every operator between them.
//
//   make_plan_corpus FOLDER
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <span>
#include <utility>
#include <vector>

#include "model/plan.h"
#include "support/plans.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file
using slalom::testing::PlanBuilder;

constexpr model::Window kSame3 = {
    .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};

std::vector<std::uint8_t> falling_table() {
  std::vector<std::uint8_t> table(256);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::uint8_t>(255 - i);
  return table;
}

model::Plan convolutions() {
  PlanBuilder b(1);
  const auto x = b.input({4, 5, 2}, 5);
  const auto c = b.conv(x, {.out_c = 4, .window = kSame3, .out_zero_point = 3});
  const auto depthwise = b.conv(c, {.out_c = 4, .window = kSame3, .groups = 4});
  const auto separable = b.separable(depthwise, {.out_c = 3, .window = kSame3});
  const auto local = b.conv(separable, {.out_c = 3, .local = true});
  return b.finish({b.dense(local, 3, true)});
}

model::Plan long_sums() {  // needs the larger field
  PlanBuilder b(2);
  return b.finish({b.dense(b.input({1, 1, 600}), 1, true)});
}

model::Plan pools() {
  PlanBuilder b(3);
  const auto x = b.input({6, 6, 2}, 9);
  const auto p = b.max_pool(x, {.kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2});
  const auto a = b.average_pool(p, {.kernel_h = 3, .kernel_w = 3});
  return b.finish({a, b.add(p, p)});
}

model::Plan elementwise() {
  PlanBuilder b(4);
  const auto x = b.input({2, 2, 3}, 128);
  const auto m = b.node({x, x}, model::Mul{.multiplier = 0.01F}, b.shape(x), x);
  const auto t = b.node({m}, model::Table{falling_table()}, b.shape(x), x);
  const auto p =
      b.node({t}, model::Prelu{.positive = 1.0F, .negative = {0.1F, 0.2F, 0.3F}}, b.shape(x), x);
  const auto l = b.node(
      {p}, model::Lrn{.size = 3, .alpha = 0.001F, .bias = 1.0F, .multiplier = 1.0F}, b.shape(x), x);
  return b.finish({l});
}

model::Plan movement() {
  PlanBuilder b(5);
  const auto x = b.input({2, 3, 4}, 7);
  const auto k = b.node({}, model::Constant{std::vector<std::uint8_t>(24, 9)}, {2, 3, 4}, x);
  const auto c = b.node({x, k}, model::Concat{.axis = 2, .multiplier = {1.0F, 1.0F}}, {2, 3, 8}, x);
  const auto p =
      b.node({c}, model::Pad{.before = {1, 0, 0}, .after = {0, 1, 0}, .code = 7}, {3, 4, 8}, x);
  const auto s = b.node({p}, model::Slice{.begin = {1, 0, 1}, .step = {1, 2, 3}}, {2, 2, 3}, x);
  const auto t = b.node({s}, model::Transpose{{2, 0, 1}}, {3, 2, 2}, x);
  return b.finish({b.reshape(t, {1, 1, 12})});
}

model::Plan classifier() {
  PlanBuilder b(6);
  const auto x = b.input({1, 1, 4}, 0);
  model::Softmax softmax;
  for (std::uint32_t d = 0; d < 256; ++d) {
    softmax.table.push_back(
        static_cast<std::uint32_t>(std::lround(16777216.0 * std::exp(-0.03 * d))));
  }
  const auto d = b.dense(x, 3);
  const auto s = b.node({d}, softmax, b.shape(d), d);
  b.plan().tensors[s].scale = 1.0F / 256;
  b.plan().tensors[s].zero_point = 0;
  model::Plan plan = b.finish({s});
  plan.outputs[0].function = model::Final::kSoftmax;
  plan.labels = {"cat", "dog", "neither"};
  return plan;
}

model::Plan pictures() {
  PlanBuilder b(7);
  model::Plan plan = b.finish({b.dense(b.input({2, 2, 3}, 114), 2)});
  model::Preprocess how;
  how.resize_shorter = 3;
  how.crop_h = how.crop_w = 2;
  how.interpolation = model::Interpolation::kBicubic;
  how.mean = {123.7F, 116.3F, 103.5F};
  how.std = {58.4F, 57.1F, 57.4F};
  plan.preprocess = how;
  return plan;
}

bool write(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  return out.good();
}

bool write_plans(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const std::pair<const char*, model::Plan> plans[] = {
      {"convolutions", convolutions()}, {"long_sums", long_sums()}, {"pools", pools()},
      {"elementwise", elementwise()},   {"movement", movement()},   {"classifier", classifier()},
      {"pictures", pictures()}};
  for (const auto& [name, plan] : plans) {
    const Status valid = model::validate(plan);
    if (!valid.ok()) {
      static_cast<void>(std::fprintf(stderr, "%s: %s\n", name, valid.error().message));
      return false;
    }
    if (!write(folder / name, model::encode_plan(plan))) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    static_cast<void>(std::fputs("usage: make_plan_corpus FOLDER\n", stderr));
    return 1;
  }
  return write_plans(argv[1]) ? 0 : 5;
}
