// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "device/gpu/cublaslt.h"
#include "device/gpu/cuda_accelerator.h"

namespace slalom::device::gpu {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::size_t kWorkspace = std::size_t{64} << 20;

template <class Kernel>
__global__ void __launch_bounds__(kThreads) run_all(Kernel kernel, std::size_t count) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) kernel(i);
}

// explain says what somebody can do about an error of the driver.
Error explain(cudaError_t error) {
  switch (error) {
    case cudaErrorNoDevice:
      return {Errc::kUnavailable, "this machine has no NVIDIA GPU that this process may use"};
    case cudaErrorInsufficientDriver:
      return {Errc::kUnavailable,
              "there is no NVIDIA driver, or it is too old: CUDA 13 needs driver 580 or later"};
    case cudaErrorInvalidDevice:
      return {Errc::kInvalidArgument, "this machine has no GPU of that number"};
    case cudaErrorMemoryAllocation:
      return {Errc::kUnavailable, "the GPU has too little free memory; try a smaller micro-batch"};
    case cudaErrorNoKernelImageForDevice:
      return {Errc::kUnavailable, "this GPU is older than compute capability 7.5"};
    default:
      return {Errc::kUnavailable, cudaGetErrorString(error)};
  }
}

class CudaAccelerator final : public Accelerator {
 public:
  ~CudaAccelerator() override {
    cudaDeviceSynchronize();
    blas_.reset();
    for (cudaEvent_t event : marks_) cudaEventDestroy(event);
    for (cudaStream_t stream : lanes_) {
      if (stream != nullptr) cudaStreamDestroy(stream);
    }
    for (void* memory : memory_) cudaFree(memory);
  }

  Status open(int index) {
    int count = 0;
    if (const auto error = cudaGetDeviceCount(&count); error != cudaSuccess) return explain(error);
    if (index < 0 || index >= count) return explain(cudaErrorInvalidDevice);
    if (const auto error = cudaSetDevice(index); error != cudaSuccess) return explain(error);
    for (cudaStream_t& stream : lanes_) {
      const auto error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
      if (error != cudaSuccess) return explain(error);
    }
    const auto workspace = allocate(kWorkspace);
    if (!workspace) return workspace.error();
    auto blas = CublasLt::open(*workspace, kWorkspace);
    if (!blas) return blas.error();
    blas_ = std::move(*blas);
    return {};
  }

  Result<std::byte*> allocate(std::size_t bytes) override {
    void* memory = nullptr;
    if (const auto error = cudaMalloc(&memory, bytes); error != cudaSuccess) {
      static_cast<void>(cudaGetLastError());  // it was told: it does not stay
      return explain(error);
    }
    memory_.push_back(memory);
    keep(cudaMemset(memory, 0, bytes));
    keep(cudaDeviceSynchronize());
    return static_cast<std::byte*>(memory);
  }
  Result<Mark> make_mark() override { return make_event(cudaEventDisableTiming); }

  // Without pinning, copies go through the driver's own buffers: slower, and as right.
  void pin(std::span<std::byte> memory) override {
    if (cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
    }
  }
  void unpin(std::span<std::byte> memory) override {
    if (cudaHostUnregister(memory.data()) != cudaSuccess) static_cast<void>(cudaGetLastError());
  }

  void upload(std::byte* to, std::span<const std::byte> from) override {
    keep(
        cudaMemcpyAsync(to, from.data(), from.size(), cudaMemcpyHostToDevice, lane(Lane::kUpload)));
  }
  void download(std::span<std::byte> to, const std::byte* from) override {
    keep(
        cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, lane(Lane::kDownload)));
  }
  void gather(const Gather& kernel) override { launch(kernel); }
  void recombine(const Recombine& kernel) override { launch(kernel); }
  void direct(const Direct& kernel) override { launch(kernel); }
  void multiply(const Product& product) override {
    if (!error_.ok()) return;
    if (const Status done = blas_->multiply(product, lane(Lane::kCompute)); !done.ok()) {
      error_ = done;
    }
  }

  void set(Lane at, Mark mark) override { keep(cudaEventRecord(marks_[mark], lane(at))); }
  void wait(Lane at, Mark mark) override { keep(cudaStreamWaitEvent(lane(at), marks_[mark], 0)); }
  bool reached(Mark mark) override {
    const auto state = cudaEventQuery(marks_[mark]);
    if (state == cudaErrorNotReady) return false;
    keep(state);
    return true;
  }
  void synchronize(Mark mark) override { keep(cudaEventSynchronize(marks_[mark])); }

  // Events know their distance from each other, as a float of milliseconds; the first one is set
  // and waited for to know when it was.
  Result<Mark> make_timer() override {
    if (!origin_) {
      const auto origin = make_event(cudaEventDefault);
      if (!origin) return origin.error();
      origin_ = *origin;
      keep(cudaDeviceSynchronize());
      set(Lane::kCompute, *origin_);
      synchronize(*origin_);
      origin_time_ = std::chrono::steady_clock::now();
    }
    return make_event(cudaEventDefault);
  }
  std::chrono::steady_clock::time_point time_of(Mark timer) override {
    float ms = 0;
    keep(cudaEventElapsedTime(&ms, marks_[*origin_], marks_[timer]));
    return origin_time_ + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                              std::chrono::duration<double, std::milli>(ms));
  }

  Status error() const override { return error_; }

 private:
  Result<Mark> make_event(unsigned flags) {
    cudaEvent_t event = nullptr;
    if (const auto error = cudaEventCreateWithFlags(&event, flags); error != cudaSuccess) {
      return explain(error);
    }
    marks_.push_back(event);
    return static_cast<Mark>(marks_.size() - 1);
  }
  cudaStream_t lane(Lane at) const { return lanes_[static_cast<std::size_t>(at)]; }
  void keep(cudaError_t error) {
    if (error != cudaSuccess && error_.ok()) error_ = explain(error);
  }
  template <class Kernel>
  void launch(const Kernel& kernel) {
    const std::size_t count = kernel.count();
    const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
    run_all<<<blocks, kThreads, 0, lane(Lane::kCompute)>>>(kernel, count);
    keep(cudaGetLastError());
  }

  Status error_;
  cudaStream_t lanes_[3] = {};
  std::vector<cudaEvent_t> marks_;
  std::optional<Mark> origin_;
  std::chrono::steady_clock::time_point origin_time_;
  std::vector<void*> memory_;
  std::unique_ptr<CublasLt> blas_;
};

}  // namespace

Result<std::unique_ptr<Accelerator>> make_cuda_accelerator(int index) {
  auto out = std::make_unique<CudaAccelerator>();
  if (const Status opened = out->open(index); !opened.ok()) return opened.error();
  return std::unique_ptr<Accelerator>(std::move(out));
}

}  // namespace slalom::device::gpu
