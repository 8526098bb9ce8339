// SPDX-License-Identifier: Apache-2.0
#include "vault/factory.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "base/assert.h"

namespace slalom::vault {

Result<std::unique_ptr<Factory>> Factory::create(const model::Plan& plan,
                                                 std::span<const std::uint32_t> nodes,
                                                 const base::CpuFeatures& cpu, std::size_t threads,
                                                 std::size_t max_images) {
  SLALOM_ASSERT(max_images > 0);
  std::unique_ptr<Factory> factory(new Factory());
  factory->max_images_ = max_images;
  factory->pool_ = std::make_unique<base::ThreadPool>(threads);
  std::size_t in = 0;
  std::size_t out = 0;
  for (const std::uint32_t index : nodes) {
    const model::Node& node = plan.nodes[index];
    const auto* linear = std::get_if<model::Linear>(&node.op);
    SLALOM_ASSERT(linear != nullptr && linear->field);
    auto engine = linear::make_engine(
        *linear, {.cpu = cpu, .pool = *factory->pool_, .max_batch = max_images});
    if (!engine.ok()) return engine.error();
    Layer layer{index,
                node.inputs[0],
                *linear->field,
                linear->in().elements(),
                linear->out().elements(),
                std::move(engine).value()};
    in = std::max(in, layer.in);
    out = std::max(out, layer.out);
    factory->layers_.push_back(std::move(layer));
  }
  factory->pads_.resize(in * max_images);
  factory->factors_.resize(out * max_images);
  return factory;
}

Status Factory::compute(std::size_t images, const Fill& fill, const Take& take) {
  SLALOM_ASSERT(images > 0 && images <= max_images_);
  Status status;
  for (Layer& layer : layers_) {
    const auto pads = std::span(pads_).first(layer.in * images);
    const auto factors = std::span(factors_).first(layer.out * images);
    for (std::size_t i = 0; i < images; ++i) {
      fill(i, layer.input, layer.field, pads.subspan(i * layer.in, layer.in));
    }
    layer.engine->run_words(layer.field, pads, images, factors);
    for (std::size_t i = 0; i < images && status.ok(); ++i) {
      status = take(i, layer.node, layer.field, factors.subspan(i * layer.out, layer.out));
    }
    if (!status.ok()) break;
  }
  OPENSSL_cleanse(pads_.data(), pads_.size() * sizeof(pads_[0]));
  OPENSSL_cleanse(factors_.data(), factors_.size() * sizeof(factors_[0]));
  return status;
}

}  // namespace slalom::vault
