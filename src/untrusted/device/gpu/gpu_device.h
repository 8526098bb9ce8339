// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "device/gpu/accelerator.h"
#include "device/jobs.h"

namespace slalom::device {

struct GpuDeviceOptions {
  // Jobs that may be begun and not finished: while one computes, the input of the next and the
  // answer of the last are copied.
  std::size_t depth = 4;
  // Bytes of device memory for the matrices of one piece of a layer. Small enough that a piece
  // stays in the GPU's cache between its kernels, large enough to fill the GPU.
  std::size_t piece_bytes = std::size_t{96} << 20;
};

// GpuDevice computes layers on an accelerator: the digits of the inputs are gathered into a matrix,
// multiplied by the int8 weights on the accelerator's matrix units, and put together mod p
// (kernels.h). Depthwise and grouped convolutions, and sums of more than kMaxDepth terms, are
// computed term by term.
//
// Three lanes run side by side: uploads, kernels, downloads. A buffer is used again only after the
// last work on it, which marks enforce; the order of jobs is the order of answers.
//
//   upload lane    | input of job 2   | input of job 3   | ...
//   compute lane   | layer of job 1   | layer of job 2   | ...
//   download lane  | answer of job 0  | answer of job 1  | ...
class GpuDevice final : public Device {
 public:
  GpuDevice(std::unique_ptr<gpu::Accelerator> accelerator, const GpuDeviceOptions& options);
  ~GpuDevice() override;

  Status load(std::shared_ptr<const model::Plan> plan, std::size_t max_batch) override;
  Status run(const Job& job) override;

  [[nodiscard]] std::size_t depth() const override { return options_.depth; }
  Status start(const Job& job) override;
  [[nodiscard]] bool ready() override;
  Status finish() override;
  void record_spans() override;
  [[nodiscard]] std::vector<Span> spans() const override { return spans_; }
  void attach(std::span<std::byte> memory) override;
  void detach(std::span<std::byte> memory) override;

 private:
  struct Stage {
    gpu::Geometry shape;
    std::size_t terms = 0;               // of one output's sum
    std::size_t depth = 0, columns = 0;  // of the matrix of weights; 0: term by term
    const std::int8_t* weights = nullptr;
  };
  struct Buffer {
    std::byte* memory = nullptr;
    gpu::Mark filled = 0;  // its upload, or the kernels that wrote it, are done
    gpu::Mark read = 0;    // the last work that reads it is done
  };
  using Sent = SentInputs<Buffer*>;
  // Timers are set before and after the work of each lane on one job.
  struct Timers {
    std::array<gpu::Mark, 3> begin{}, end{};
    bool uploads = false;
  };
  struct Started {
    Status status;
    gpu::Mark done = 0;
    Timers* timers = nullptr;  // null: nobody asks
  };

  [[nodiscard]] Status make_stages(const model::Linear& linear, std::vector<Stage>& stages);
  [[nodiscard]] Result<Buffer> make_buffer(std::size_t bytes);
  [[nodiscard]] Status add_input_buffer();
  [[nodiscard]] Status begin(const Job& job, Started& started);
  [[nodiscard]] Result<Buffer*> upload(const Job& job);
  void stamp(std::array<gpu::Mark, 3> Timers::*edge, gpu::Lane lane);
  void read_timers(const Timers& timers);
  void compute(const Job& job, const Sent::Input& input, std::byte* out);
  void compute_stage(const Stage& stage, const gpu::Tensor& in, std::int32_t padding,
                     std::size_t batch, const gpu::Output& out);

  std::unique_ptr<gpu::Accelerator> accelerator_;
  GpuDeviceOptions options_;
  std::shared_ptr<const model::Plan> plan_;
  JobLayers layers_;
  std::vector<std::vector<Stage>> stages_;  // by node

  Sent sent_;  // and what is being read
  std::size_t input_bytes_ = 0;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<Buffer*> free_inputs_;  // longest unused first
  // A ring, one for each job in flight: the one that comes next is that of a finished job.
  std::vector<Buffer> outputs_;
  std::size_t next_output_ = 0;
  std::byte* matrix_ = nullptr;   // of gathered digits
  std::byte* sums_ = nullptr;     // of the product
  std::byte* between_ = nullptr;  // wide words between two stages
  std::deque<Started> started_;
  std::vector<Timers> timers_;  // as many as outputs_, and used as they are; empty: nobody asks
  Timers* present_ = nullptr;   // of the job that is being begun
  std::vector<Span> spans_;
};

}  // namespace slalom::device
