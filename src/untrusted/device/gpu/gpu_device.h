// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "device/device.h"
#include "device/gpu/accelerator.h"

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
  void attach(std::span<std::byte> memory) override;
  void detach(std::span<std::byte> memory) override;

 private:
  struct Stage {
    gpu::Geometry shape;
    std::size_t terms = 0;               // of one output's sum
    std::size_t depth = 0, columns = 0;  // of the matrix of weights; 0: term by term
    const std::int8_t* weights = nullptr;
  };
  struct Layer {
    std::vector<Stage> stages;
    field::Field field = field::Field::kP24;
    model::TensorId tensor = 0;
    std::size_t in_elements = 0, out_elements = 0;
  };
  struct Buffer {
    std::byte* memory = nullptr;
    gpu::Mark filled = 0;  // its upload, or the kernels that wrote it, are done
    gpu::Mark read = 0;    // the last work that reads it is done
  };
  // Input is what the device was sent, kept while layers that share it may still ask for it.
  struct Input {
    std::uint64_t attempt = 0;
    model::TensorId tensor = 0;
    channel::InputKind kind = channel::InputKind::kCodes;
    field::Field field = field::Field::kP24;
    std::size_t batch = 0;
    std::uint8_t pad_code = 0;
    std::size_t readers_left = 0;
    Buffer* buffer = nullptr;
  };
  struct Started {
    Status status;
    gpu::Mark done = 0;
  };

  [[nodiscard]] Status make_layer(const model::Linear& linear, Layer& layer);
  [[nodiscard]] Result<Buffer> make_buffer(std::size_t bytes);
  [[nodiscard]] Status add_input_buffer();
  [[nodiscard]] Status begin(const Job& job, Started& started);
  [[nodiscard]] Status take_input(const Job& job, const Layer& layer, Input& input);
  [[nodiscard]] std::list<Input>::iterator find_retained(std::uint64_t attempt,
                                                         model::TensorId tensor);
  void keep_or_free(std::list<Input>::iterator input);
  void compute(const Job& job, const Layer& layer, const Input& input, std::byte* out);
  void compute_stage(const Stage& stage, const gpu::Tensor& in, std::int32_t padding,
                     std::size_t batch, const gpu::Output& out);

  std::unique_ptr<gpu::Accelerator> accelerator_;
  GpuDeviceOptions options_;
  std::shared_ptr<const model::Plan> plan_;
  std::size_t max_batch_ = 0;
  std::vector<std::optional<Layer>> layers_;  // by node
  std::vector<std::size_t> readers_;          // by tensor: layers that read it

  std::list<Input> inputs_;  // in use, oldest first
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
};

}  // namespace slalom::device
