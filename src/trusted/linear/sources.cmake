# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE
  linear/engine.cc linear/kernel_core.cc linear/kernels.cc linear/kernels_avx2.cc
  linear/kernels_avx512.cc linear/kernels_sse41.cc linear/kernels_vnni.cc linear/portable.cc
  linear/proof.cc linear/tile.cc linear/tiled_engine.cc)
