// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/cublaslt.h"

#include <dlfcn.h>

#include <cstdint>

namespace slalom::device::gpu {
namespace {

constexpr Error kNoLibrary{
    Errc::kUnavailable,
    "libcublasLt.so.13 was not found: install cuBLAS 13 (libcublas-13-0) and "
    "let ldconfig know where it is"};
constexpr Error kFailed{Errc::kUnavailable, "cuBLASLt refused a matrix product"};

// A worker is started with an empty environment: what the loader's cache does not know is looked
// for where NVIDIA's packages put it.
void* open_library() {
  for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13",
                           "/usr/local/cuda-13/lib64/libcublasLt.so.13"}) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

template <class F>
bool find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

Result<std::unique_ptr<CublasLt>> CublasLt::open(void* workspace, std::size_t bytes) {
  void* library = open_library();
  if (library == nullptr) return kNoLibrary;
  Functions f;
  const bool all = find(library, "cublasLtCreate", f.create) &&
                   find(library, "cublasLtDestroy", f.destroy) &&
                   find(library, "cublasLtMatmulDescCreate", f.desc_create) &&
                   find(library, "cublasLtMatmulDescSetAttribute", f.desc_set) &&
                   find(library, "cublasLtMatmulDescDestroy", f.desc_destroy) &&
                   find(library, "cublasLtMatrixLayoutCreate", f.layout_create) &&
                   find(library, "cublasLtMatrixLayoutDestroy", f.layout_destroy) &&
                   find(library, "cublasLtMatmulPreferenceCreate", f.preference_create) &&
                   find(library, "cublasLtMatmulPreferenceSetAttribute", f.preference_set) &&
                   find(library, "cublasLtMatmulPreferenceDestroy", f.preference_destroy) &&
                   find(library, "cublasLtMatmulAlgoGetHeuristic", f.heuristic) &&
                   find(library, "cublasLtMatmul", f.matmul);
  if (!all) {
    dlclose(library);
    return kNoLibrary;
  }
  std::unique_ptr<CublasLt> out(new CublasLt(library, f, workspace, bytes));
  if (f.create(&out->handle_) != CUBLAS_STATUS_SUCCESS) {
    return Error{Errc::kUnavailable, "cuBLASLt could not be started on this GPU"};
  }
  return out;
}

CublasLt::~CublasLt() {
  for (auto& [shape, p] : prepared_) {
    f_.desc_destroy(p.operation);
    for (cublasLtMatrixLayout_t layout : {p.w, p.a, p.c}) f_.layout_destroy(layout);
  }
  if (handle_ != nullptr) f_.destroy(handle_);
  dlclose(library_);
}

// cuBLASLt counts columns first: C^T [columns x rows] = W [depth x columns]^T  A [depth x rows].
// This is the layout (TN) that its int8 kernels want.
bool CublasLt::prepare(const Product& product, Prepared& out) {
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const auto depth = static_cast<std::int64_t>(product.depth);
  const auto columns = static_cast<std::uint64_t>(product.columns);
  const auto rows = static_cast<std::uint64_t>(product.rows);
  const auto good = [](cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS; };
  if (!good(f_.desc_create(&out.operation, CUBLAS_COMPUTE_32I, CUDA_R_32I)) ||
      !good(f_.desc_set(out.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                        sizeof(transposed))) ||
      !good(f_.layout_create(&out.w, CUDA_R_8I, product.depth, columns, depth)) ||
      !good(f_.layout_create(&out.a, CUDA_R_8I, product.depth, rows, depth)) ||
      !good(f_.layout_create(&out.c, CUDA_R_32I, columns, rows,
                             static_cast<std::int64_t>(columns)))) {
    return false;
  }
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const bool chosen = good(f_.preference_create(&preference)) &&
                      good(f_.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace_bytes_, sizeof(workspace_bytes_))) &&
                      good(f_.heuristic(handle_, out.operation, out.w, out.a, out.c, out.c,
                                        preference, 1, &best, &found)) &&
                      found == 1;
  if (preference != nullptr) f_.preference_destroy(preference);
  out.algorithm = best.algo;
  return chosen;
}

Status CublasLt::multiply(const Product& product, cudaStream_t stream) {
  const Shape shape{product.rows, product.columns, product.depth};
  auto at = prepared_.find(shape);
  if (at == prepared_.end()) {
    at = prepared_.emplace(shape, Prepared{}).first;
    if (!prepare(product, at->second)) return kFailed;
  }
  const Prepared& p = at->second;
  const std::int32_t one = 1;
  const std::int32_t zero = 0;
  const auto status =
      f_.matmul(handle_, p.operation, &one, product.w, p.w, product.a, p.a, &zero, product.c, p.c,
                product.c, p.c, &p.algorithm, workspace_, workspace_bytes_, stream);
  return status == CUBLAS_STATUS_SUCCESS ? Status{} : Status(kFailed);
}

}  // namespace slalom::device::gpu
