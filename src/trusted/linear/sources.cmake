# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE
  linear/engine.cc linear/kernel_core.cc linear/kernels.cc linear/proof.cc linear/tile.cc
  linear/tiled_engine.cc)
