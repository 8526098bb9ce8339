// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "device/jobs.h"
#include "field/kernels.h"
#include "linear/engine.h"

namespace slalom::device {

struct CpuDeviceOptions {
  base::CpuFeatures cpu;
  std::size_t threads = 1;
};

// CpuDevice computes linear layers on this machine's processor with the engine of slalom::linear,
// exactly, on every x86-64-v2 CPU and up. It is quick and honest; nobody has to believe either.
//
// Retained inputs: the last kRetainedInputs inputs of tensors that several linear layers read are
// kept until every reader has had them.
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
  // Unpacked is one micro-batch's input: codes, or words of a field.
  struct Unpacked {
    std::vector<std::uint8_t> codes;
    std::vector<std::uint32_t> words;
  };
  using Sent = SentInputs<Unpacked>;

  void unpack(const Job& job, Unpacked& to);
  void compute(const Job& job, const JobLayer& layer, const Sent::Input& input);

  CpuDeviceOptions options_;
  const field::Kernels& kernels_;
  base::ThreadPool pool_;
  std::shared_ptr<const model::Plan> plan_;
  JobLayers layers_;
  std::vector<std::unique_ptr<linear::Engine>> engines_;  // by plan node
  Sent sent_;
  Unpacked spare_;  // memory of an input that went
  std::vector<std::int32_t> sums_;
  std::vector<std::uint32_t> words_;
};

}  // namespace slalom::device
