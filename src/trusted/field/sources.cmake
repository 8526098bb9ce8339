target_sources(slalom_trusted PRIVATE
  field/kernels.cc field/kernels_portable.cc field/kernels_avx2.cc field/kernels_avx512.cc
  field/kernels_avx512ifma.cc field/requant.cc)
