# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE
  runtime/checks.cc runtime/executor.cc runtime/lane.cc runtime/memory_plan.cc runtime/pass.cc runtime/program.cc
  runtime/streaming.cc
  runtime/ops/elementwise.cc runtime/ops/kernels.cc runtime/ops/movement.cc
  runtime/ops/normalise.cc runtime/ops/operator.cc runtime/ops/pooling.cc)
