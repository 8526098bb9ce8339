// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include "model/plan.h"

namespace slalom::bench {

// LayerShape is one linear layer of a network and how often it occurs. Padding is (kernel - 1) / 2.
struct LayerShape {
  std::uint32_t size, in_c, out_c, kernel, stride, groups;
  std::size_t count;
};

inline std::vector<LayerShape> network_shapes(std::string_view name) {
  if (name == "vgg16") {
    return {{224, 3, 64, 3, 1, 1, 1},     {224, 64, 64, 3, 1, 1, 1},   {112, 64, 128, 3, 1, 1, 1},
            {112, 128, 128, 3, 1, 1, 1},  {56, 128, 256, 3, 1, 1, 1},  {56, 256, 256, 3, 1, 1, 2},
            {28, 256, 512, 3, 1, 1, 1},   {28, 512, 512, 3, 1, 1, 2},  {14, 512, 512, 3, 1, 1, 3},
            {1, 25088, 4096, 1, 1, 1, 1}, {1, 4096, 4096, 1, 1, 1, 1}, {1, 4096, 1000, 1, 1, 1, 1}};
  }
  if (name == "vgg16_convs") {
    std::vector<LayerShape> shapes = network_shapes("vgg16");
    shapes.resize(shapes.size() - 3);
    return shapes;
  }
  if (name == "resnet50") {
    return {{224, 3, 64, 7, 2, 1, 1},    {56, 64, 64, 1, 1, 1, 1},    {56, 64, 64, 3, 1, 1, 3},
            {56, 64, 256, 1, 1, 1, 4},   {56, 256, 64, 1, 1, 1, 2},   {56, 256, 128, 1, 1, 1, 1},
            {56, 128, 128, 3, 2, 1, 1},  {28, 128, 512, 1, 1, 1, 4},  {56, 256, 512, 1, 2, 1, 1},
            {28, 512, 128, 1, 1, 1, 3},  {28, 128, 128, 3, 1, 1, 3},  {28, 512, 256, 1, 1, 1, 1},
            {28, 256, 256, 3, 2, 1, 1},  {14, 256, 1024, 1, 1, 1, 6}, {28, 512, 1024, 1, 2, 1, 1},
            {14, 1024, 256, 1, 1, 1, 5}, {14, 256, 256, 3, 1, 1, 5},  {14, 1024, 512, 1, 1, 1, 1},
            {14, 512, 512, 3, 2, 1, 1},  {7, 512, 2048, 1, 1, 1, 3},  {14, 1024, 2048, 1, 2, 1, 1},
            {7, 2048, 512, 1, 1, 1, 2},  {7, 512, 512, 3, 1, 1, 2},   {1, 2048, 1000, 1, 1, 1, 1}};
  }
  if (name == "mobilenet") {
    std::vector<LayerShape> shapes = {{224, 3, 32, 3, 2, 1, 1}};
    const auto block = [&](std::uint32_t size, std::uint32_t in, std::uint32_t out,
                           std::uint32_t stride, std::size_t count) {
      shapes.push_back({size, in, in, 3, stride, in, count});
      shapes.push_back({size / stride, in, out, 1, 1, 1, count});
    };
    block(112, 32, 64, 1, 1), block(112, 64, 128, 2, 1), block(56, 128, 128, 1, 1);
    block(56, 128, 256, 2, 1), block(28, 256, 256, 1, 1), block(28, 256, 512, 2, 1);
    block(14, 512, 512, 1, 5), block(14, 512, 1024, 2, 1), block(7, 1024, 1024, 1, 1);
    shapes.push_back({1, 1024, 1000, 1, 1, 1, 1});
    return shapes;
  }
  return {};
}

inline model::Conv make_conv(const LayerShape& shape) {
  const std::uint32_t pad = (shape.kernel - 1) / 2;
  const std::uint32_t out = (shape.size + 2 * pad - shape.kernel) / shape.stride + 1;
  model::Conv c;
  c.in = {shape.size, shape.size, shape.in_c};
  c.out = {out, out, shape.out_c};
  c.window = {.kernel_h = shape.kernel,
              .kernel_w = shape.kernel,
              .stride_h = shape.stride,
              .stride_w = shape.stride,
              .pad_top = pad,
              .pad_left = pad,
              .pad_bottom = pad,
              .pad_right = pad};
  c.groups = shape.groups;
  return c;
}

inline double macs(const model::Linear& layer) {
  const model::Conv& c = layer.stages[0].conv;
  return static_cast<double>(c.out.elements()) * static_cast<double>(c.terms());
}

inline model::Linear make_layer(const LayerShape& shape) {
  model::Linear layer;
  layer.stages.resize(1);
  model::ConvStage& stage = layer.stages[0];
  stage.conv = make_conv(shape);
  std::mt19937 random(shape.in_c + shape.out_c);
  stage.weights.resize(stage.conv.weights());
  // Most weights of trained layers are far from the largest one.
  std::normal_distribution<float> weight(0.0F, 20.0F);
  for (auto& w : stage.weights) {
    w = static_cast<std::int8_t>(std::lround(std::clamp(weight(random), -127.0F, 127.0F)));
  }
  layer.bias.assign(shape.out_c, 100);
  layer.requant.multiplier.assign(shape.out_c,
                                  0.01F / std::sqrt(static_cast<float>(stage.conv.terms())));
  layer.requant.zero_point = 0;  // as after a ReLU
  return layer;
}

}  // namespace slalom::bench
