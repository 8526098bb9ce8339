// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "linear/engine.h"
#include "model/plan.h"
#include "slalom/result.h"

namespace slalom::vault {

// Factory computes unblinding factors u = W r mod p (the linear part: zero padding, no bias) for
// chosen Linear nodes of a plan, on this CPU, several images at a time. This is the offline half of
// the private modes: it costs each layer once per image, in three (p24) or four (p31) limbs. One
// thread at a time.
class Factory {
 public:
  // nodes: indices of Linear nodes that have a field. The plan must outlive the factory.
  [[nodiscard]] static Result<std::unique_ptr<Factory>> create(const model::Plan& plan,
                                                               std::span<const std::uint32_t> nodes,
                                                               const base::CpuFeatures& cpu,
                                                               std::size_t threads,
                                                               std::size_t max_images);

  // fill gives the pad of one image for the input tensor of a node.
  using Fill = std::function<void(std::size_t image, model::TensorId tensor, field::Field f,
                                  std::span<std::uint32_t> words)>;
  // take receives the factors of one image for one node, in the order of nodes.
  using Take = std::function<Status(std::size_t image, std::uint32_t node, field::Field f,
                                    std::span<const std::uint32_t> factors)>;
  // REQUIRES: 1 <= images <= max_images. Pads and factors are wiped from scratch memory at the end.
  [[nodiscard]] Status compute(std::size_t images, const Fill& fill, const Take& take);

 private:
  struct Layer {
    std::uint32_t node = 0;
    model::TensorId input = 0;
    field::Field field = field::Field::kP24;
    std::size_t in = 0, out = 0;  // words an image
    std::unique_ptr<linear::Engine> engine;
  };
  Factory() = default;

  std::size_t max_images_ = 1;
  std::unique_ptr<base::ThreadPool> pool_;  // outlives the engines
  std::vector<Layer> layers_;
  std::vector<std::uint32_t> pads_, factors_;
};

}  // namespace slalom::vault
