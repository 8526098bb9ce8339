// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "model/plan.h"
#include "runtime/executor.h"
#include "support/folder.h"
#include "untrusted/host/outcome.h"

// What tests that run whole processes share: inputs and results.

namespace slalom::testing {

// Images gives images of uniformly random codes: equal for equal seeds.
class Images final : public runtime::Source {
 public:
  Images(std::uint64_t count, unsigned seed) : left_(count), random_(seed) {}
  bool next(std::span<std::uint8_t> codes) override {
    if (left_ == 0) return false;
    --left_;
    for (auto& c : codes) c = static_cast<std::uint8_t>(random_());
    return true;
  }

 private:
  std::uint64_t left_;
  std::mt19937 random_;
};

// Answers keeps what was released, in order, and why the rest was not.
class Answers final : public runtime::Sink {
 public:
  struct Tensor {
    model::TensorId id = 0;
    std::vector<std::uint8_t> codes;
    std::vector<std::int32_t> integers;
    friend bool operator==(const Tensor&, const Tensor&) = default;
  };
  struct Image {
    std::uint64_t number = 0;
    std::vector<Tensor> outputs;
    friend bool operator==(const Image&, const Image&) = default;
  };

  void deliver(std::uint64_t image, std::span<const runtime::OutputView> outputs) override {
    Image out{image, {}};
    for (const auto& o : outputs) {
      out.outputs.push_back(
          {o.tensor, {o.codes.begin(), o.codes.end()}, {o.integers.begin(), o.integers.end()}});
    }
    released.push_back(std::move(out));
  }
  void fail(std::uint64_t image, Error error) override { failed.emplace_back(image, error.code); }

  std::vector<Image> released;
  std::vector<std::pair<std::uint64_t, Errc>> failed;
};

}  // namespace slalom::testing
