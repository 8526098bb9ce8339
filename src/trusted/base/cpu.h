// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace slalom::base {

// CpuFeatures says which instruction sets this process may use. It is read once (CPUID and XGETBV;
// AMX also needs the kernel's permission, asked for by detect_cpu) and then passed as a value: a
// lying CPUID can end the process but never change a result, since all kernels agree bit for bit.
struct CpuFeatures {
  bool sse41 = false;
  bool avx2 = false;
  bool avx512 = false;  // F, BW, DQ, VL and CD together
  bool avx512_ifma = false;
  bool avx512_vbmi = false;
  bool avx512_vnni = false;
  bool amx_int8 = false;
  bool aes = false;   // with PCLMULQDQ
  bool vaes = false;  // with VPCLMULQDQ
  bool rdseed = false;
};

// detect_cpu reads what this machine has. Thread-safe.
[[nodiscard]] CpuFeatures detect_cpu() noexcept;

}  // namespace slalom::base
