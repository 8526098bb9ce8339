// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "device/device.h"
#include "field/kernels.h"
#include "linear/engine.h"

namespace slalom::device {

struct CpuDeviceOptions {
  base::CpuFeatures cpu;
  std::size_t threads = 1;
  linear::Backend backend = linear::Backend::kAuto;
};

// CpuDevice computes linear layers on this machine's processor with the engine of slalom::linear,
// exactly, on every x86-64-v2 CPU and up. It is quick and honest; nobody has to believe either.
//
// Retained inputs: the inputs of tensors that several linear layers read are kept, for the last
// kRetainedInputs micro-batches of each tensor, until every reader has had them.
//
// Errors of run(): kInvalidArgument for a layer, batch, kind or size that the plan does not allow;
// kUnavailable for a retained input that is not there (any more). No input makes it crash.
class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuDeviceOptions& options);
  ~CpuDevice() override;

  [[nodiscard]] Status load(std::shared_ptr<const model::Plan> plan,
                            std::size_t max_batch) override;
  [[nodiscard]] Status run(const Job& job) override;

 private:
  // Input is one micro-batch's input, unpacked: codes, or words of a field.
  struct Input {
    std::uint64_t attempt = 0;
    model::TensorId tensor = 0;
    channel::InputKind kind = channel::InputKind::kCodes;
    field::Field field = field::Field::kP24;
    std::uint32_t batch = 0;
    std::uint8_t pad_code = 0;
    std::size_t readers_left = 0;
    std::vector<std::uint8_t> codes;
    std::vector<std::uint32_t> words;
  };
  struct Layer {
    std::unique_ptr<linear::Engine> engine;
    field::Field field = field::Field::kP24;
    model::TensorId tensor = 0;
    std::size_t in_elements = 0;
    std::size_t out_elements = 0;
  };

  [[nodiscard]] Status take_input(const Job& job, const Layer& layer, Input& input);
  [[nodiscard]] Input* find_retained(std::uint64_t attempt, model::TensorId tensor);
  void retain(const Input& input);
  void compute(const Job& job, Layer& layer, const Input& input);

  CpuDeviceOptions options_;
  const field::Kernels& kernels_;
  base::ThreadPool pool_;
  std::shared_ptr<const model::Plan> plan_;
  std::size_t max_batch_ = 0;
  std::vector<std::optional<Layer>> layers_;  // by plan node
  std::vector<std::size_t> readers_;          // by tensor: layers that a device may be asked for
  std::list<Input> retained_;                 // oldest first
  Input current_;
  std::vector<std::int32_t> sums_;
  std::vector<std::uint32_t> words_;
};

}  // namespace slalom::device
