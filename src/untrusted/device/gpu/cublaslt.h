// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublasLt.h>

#include <map>
#include <memory>
#include <tuple>

#include "device/gpu/accelerator.h"
#include "slalom/result.h"

namespace slalom::device::gpu {

// CublasLt computes Products with NVIDIA's cuBLASLt, which is opened when it is first asked for.
// One thread, one GPU.
class CublasLt {
 public:
  // open finds the library and makes a handle on the current GPU; workspace is memory of the GPU.
  [[nodiscard]] static Result<std::unique_ptr<CublasLt>> open(void* workspace, std::size_t bytes);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  [[nodiscard]] Status multiply(const Product& product, cudaStream_t stream);

 private:
  // The functions of the library that are used, by their own names.
  struct Functions {
    decltype(&cublasLtCreate) create = nullptr;
    decltype(&cublasLtDestroy) destroy = nullptr;
    decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
    decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
    decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
    decltype(&cublasLtMatmul) matmul = nullptr;
  };
  // Prepared is everything about one shape of product; shapes come back with every micro-batch.
  struct Prepared {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t w = nullptr, a = nullptr, c = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
  };
  using Shape = std::tuple<std::size_t, std::size_t, std::size_t>;

  CublasLt(void* library, const Functions& functions, void* workspace, std::size_t bytes)
      : library_(library), f_(functions), workspace_(workspace), workspace_bytes_(bytes) {}
  [[nodiscard]] bool prepare(const Product& product, Prepared& out);

  void* library_;
  Functions f_;
  void* workspace_;
  std::size_t workspace_bytes_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Shape, Prepared> prepared_;
};

}  // namespace slalom::device::gpu
