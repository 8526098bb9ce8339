// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "device/device.h"
#include "slalom/result.h"

// What every kind of device must know of the jobs that it is given: which layers there are, whether
// a job fits its layer, and which inputs later jobs may refer to.

namespace slalom::device {

inline constexpr std::uint32_t kMostBatch = 1024;  // of any device

// JobLayer is what a job must fit.
struct JobLayer {
  field::Field field = field::Field::kP24;  // the layer's own; a job may name the other
  model::TensorId tensor = 0;               // that it reads
  std::size_t readers = 0;                  // layers that read that tensor, this one among them
  std::size_t in_elements = 0;              // of one image
  std::size_t out_elements = 0;
};

// JobLayers is the table of the layers of a plan that a device may be asked for: each Linear that
// has a field, by the number of its node. Immutable; any number of threads may read it.
class JobLayers {
 public:
  JobLayers() = default;  // no layers
  // make reads a plan. kInvalidArgument: there is none, or no room for one image, or for more than
  // kMostBatch.
  [[nodiscard]] static Result<JobLayers> make(const model::Plan* plan, std::size_t max_batch);

  // find gives one layer, or null.
  [[nodiscard]] const JobLayer* find(std::size_t layer) const noexcept {
    return layer < layers_.size() && layers_[layer] ? &*layers_[layer] : nullptr;
  }
  // check says whether a job names a layer of the table, its batch, field and kind are known, and
  // its slots have exactly the size that these ask for (the input of a kRetained job is not looked
  // at). kInvalidArgument otherwise. All values of a Job are allowed.
  [[nodiscard]] Status check(const Job& job) const noexcept;

  // The largest slots of any job that passes check(), in bytes.
  [[nodiscard]] std::size_t largest_input() const noexcept { return largest_input_; }
  [[nodiscard]] std::size_t largest_output() const noexcept { return largest_output_; }

 private:
  std::vector<std::optional<JobLayer>> layers_;  // by node
  std::size_t max_batch_ = 0;
  std::size_t largest_input_ = 0;
  std::size_t largest_output_ = 0;
};

// SentInputs keeps what a device was sent, in whatever form it holds it (Kept), for requests of
// kind kRetained: each input until all layers that read its tensor have had it, and at most
// Device::kRetainedInputs of them. What goes is given back, so that its memory can be used again.
// One thread.
template <class Kept>
class SentInputs {
 public:
  struct Input {
    std::uint64_t attempt = 0;
    model::TensorId tensor = 0;
    channel::InputKind kind = channel::InputKind::kCodes;
    field::Field field = field::Field::kP24;
    std::uint32_t batch = 0;
    std::uint8_t pad_code = 0;
    std::size_t readers_left = 0;  // after the job that brought it
    Kept kept{};
  };

  // input gives what a job computes on: what it brings, which `receive` turns into a Result<Kept>
  // and which is kept from then on, or what a kRetained job refers to. Counts one more reader.
  // kUnavailable: that is not here (any more), or was of another batch or field. The pointer holds
  // until the next call of settle or clear. REQUIRES: the job passed JobLayers::check.
  template <class Receive>
  [[nodiscard]] Result<Input*> input(const Job& job, const JobLayer& layer, Receive&& receive) {
    if (job.kind == channel::InputKind::kRetained) {
      const auto found = find(job, layer);
      if (found) --(*found)->readers_left;
      return found;
    }
    Result<Kept> kept = receive();
    if (!kept) return kept.error();
    return &inputs_.emplace_back(describe(job, layer, std::move(kept).value()));
  }

  // settle ends a job with its input: one without readers to come goes, and the oldest goes when
  // too many stay (its readers are then computed elsewhere, or will never come).
  [[nodiscard]] std::optional<Kept> settle(const Input& input) {
    if (input.readers_left > 0 && inputs_.size() <= Device::kRetainedInputs) return std::nullopt;
    const auto gone = input.readers_left > 0
                          ? inputs_.begin()
                          : std::find_if(inputs_.begin(), inputs_.end(),
                                         [&input](const Input& other) { return &other == &input; });
    std::optional<Kept> kept(std::move(gone->kept));
    inputs_.erase(gone);
    return kept;
  }
  void clear() noexcept { inputs_.clear(); }

 private:
  [[nodiscard]] static Input describe(const Job& job, const JobLayer& layer, Kept kept) {
    return {.attempt = job.attempt,
            .tensor = layer.tensor,
            .kind = job.kind,
            .field = job.field,
            .batch = job.batch,
            .pad_code = job.pad_code,
            .readers_left = layer.readers - 1,
            .kept = std::move(kept)};
  }

  [[nodiscard]] Result<Input*> find(const Job& job, const JobLayer& layer) {
    // Newest first: an input sent again under the same attempt replaces the older one.
    const auto at = std::find_if(inputs_.rbegin(), inputs_.rend(), [&](const Input& input) {
      return input.attempt == job.attempt && input.tensor == layer.tensor;
    });
    if (at == inputs_.rend() || at->batch != job.batch ||
        (at->kind == channel::InputKind::kWords && at->field != job.field)) {
      return Error{Errc::kUnavailable, "the input that a request refers to is not here"};
    }
    return &*at;
  }

  std::list<Input> inputs_;  // oldest first
};

}  // namespace slalom::device
