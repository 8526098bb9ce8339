// SPDX-License-Identifier: Apache-2.0
#pragma once

// Target regions: the one place where instruction-set strings are spelled. A kernel file includes
// its standard headers first, then opens one region around an unnamed namespace:
//
//   SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX2)
//   namespace { ... }
//   SLALOM_TARGET_END
//
// Only functions inside the region use the wider instructions, so no inline function shared with
// other files is ever compiled for a processor that may not be there (flags per file would do
// that). Use function objects, not lambdas, inside: g++ 12 does not give a lambda's thunk the
// target.

#define SLALOM_PRAGMA_TEXT(text) _Pragma(#text)
#define SLALOM_PRAGMA(text) SLALOM_PRAGMA_TEXT(text)

#if defined(__clang__)
#define SLALOM_TARGET_BEGIN(isa) \
  SLALOM_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define SLALOM_TARGET_END SLALOM_PRAGMA(clang attribute pop)
#else
#define SLALOM_TARGET_BEGIN(isa)  \
  SLALOM_PRAGMA(GCC push_options) \
  SLALOM_PRAGMA(GCC target(isa))
#define SLALOM_TARGET_END SLALOM_PRAGMA(GCC pop_options)
#endif

// Each string matches one flag of base::CpuFeatures (or the flags it names).
#define SLALOM_ISA_AVX2 "avx2"
#define SLALOM_ISA_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx512cd"
#define SLALOM_ISA_AVX512_VNNI "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vnni"
// IFMA, VBMI, VNNI and wide AES together: Ice Lake, Zen 4 and later.
#define SLALOM_ISA_AVX512_IFMA \
  "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512ifma,avx512vbmi,avx512vnni,aes,vaes"
#define SLALOM_ISA_AES "aes"
