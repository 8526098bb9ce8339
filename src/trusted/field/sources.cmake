# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE
  field/challenge.cc field/fresh_challenge.cc field/kernels.cc field/kernels_avx2.cc
  field/kernels_avx512.cc field/kernels_avx512ifma.cc field/kernels_portable.cc field/pad_stream.cc
  field/random.cc field/requant.cc field/transpose.cc field/verdict.cc)
