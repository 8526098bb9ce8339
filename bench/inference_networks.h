// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "support/plans.h"

// Whole networks at 224x224 with the shapes of the real ones and random weights: what the executor
// has to move does not depend on what the weights say.

namespace slalom::bench {

inline constexpr model::Window kSame3{
    .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
inline constexpr model::Window kHalve{.kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2};

inline model::Window stride2(model::Window w) {
  w.stride_h = w.stride_w = 2;
  return w;
}

// vgg16: Simonyan and Zisserman 2014, configuration D.
inline model::Plan vgg16() {
  testing::PlanBuilder b;
  auto x = b.input({224, 224, 3});
  for (const auto& [count, channels] : std::initializer_list<std::pair<int, std::uint32_t>>{
           {2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}}) {
    for (int i = 0; i < count; ++i) x = b.conv(x, {.out_c = channels, .window = kSame3});
    x = b.max_pool(x, kHalve);
  }
  x = b.reshape(x, {1, 1, 7 * 7 * 512});
  x = b.dense(x, 4096);
  x = b.dense(x, 4096);
  return b.finish({b.dense(x, 1000, true)});
}

// resnet50: He et al. 2015, the stride in the first convolution of a bottleneck.
inline model::Plan resnet50() {
  testing::PlanBuilder b;
  auto x = b.input({224, 224, 3});
  const model::Window stem{.kernel_h = 7,
                           .kernel_w = 7,
                           .stride_h = 2,
                           .stride_w = 2,
                           .pad_top = 3,
                           .pad_left = 3,
                           .pad_bottom = 3,
                           .pad_right = 3};
  x = b.conv(x, {.out_c = 64, .window = stem});
  x = b.max_pool(x, stride2(kSame3));
  std::uint32_t width = 64;
  for (const int blocks : {3, 4, 6, 3}) {
    for (int i = 0; i < blocks; ++i) {
      const model::Window first = i == 0 && width != 64 ? stride2({}) : model::Window{};
      auto shortcut = x;
      if (i == 0) shortcut = b.conv(x, {.out_c = 4 * width, .window = first});
      auto y = b.conv(x, {.out_c = width, .window = first});
      y = b.conv(y, {.out_c = width, .window = kSame3});
      y = b.conv(y, {.out_c = 4 * width});
      x = b.add(y, shortcut);
    }
    width *= 2;
  }
  x = b.average_pool(x, {.kernel_h = 7, .kernel_w = 7});
  return b.finish({b.dense(x, 1000, true)});
}

// mobilenet: Howard et al. 2017, width 1.
inline model::Plan mobilenet() {
  testing::PlanBuilder b;
  auto x = b.input({224, 224, 3});
  x = b.conv(x, {.out_c = 32, .window = stride2(kSame3)});
  const auto block = [&](std::uint32_t channels, bool halve) {
    x = b.conv(x, {.out_c = b.shape(x).c,
                   .window = halve ? stride2(kSame3) : kSame3,
                   .groups = b.shape(x).c});
    x = b.conv(x, {.out_c = channels});
  };
  block(64, false);
  for (const std::uint32_t channels : {128U, 256U}) {
    block(channels, true);
    block(channels, false);
  }
  block(512, true);
  for (int i = 0; i < 5; ++i) block(512, false);
  block(1024, true);
  block(1024, false);
  x = b.average_pool(x, {.kernel_h = 7, .kernel_w = 7});
  return b.finish({b.dense(x, 1000, true)});
}

inline model::Plan network(std::string_view name) {
  if (name == "vgg16") return vgg16();
  if (name == "resnet50") return resnet50();
  return mobilenet();
}

}  // namespace slalom::bench
