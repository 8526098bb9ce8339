# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE
  linear/engine.cc linear/kernel_core.cc linear/kernels.cc linear/proof.cc linear/tile.cc
  linear/tiled_engine.cc)
if(SLALOM_WITH_ONEDNN)
  # Not find_package(dnnl): Debian's file of it wants the headers of OpenCL. libgomp only for the two
  # calls that keep oneDNN in the calling thread.
  find_library(SLALOM_DNNL_LIBRARY dnnl REQUIRED)
  find_library(SLALOM_GOMP_LIBRARY NAMES libgomp.so.1 gomp REQUIRED)
  target_sources(slalom_trusted PRIVATE linear/onednn_core.cc)
  target_compile_definitions(slalom_trusted PRIVATE SLALOM_WITH_ONEDNN)
  target_link_libraries(slalom_trusted PRIVATE ${SLALOM_DNNL_LIBRARY} ${SLALOM_GOMP_LIBRARY})
endif()
