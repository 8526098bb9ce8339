// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "importer/reference.h"
#include "trusted/runtime/doubles.h"
#include "trusted/runtime/random_plan.h"

namespace slalom::testing {

inline std::vector<Image> random_images(const model::Plan& plan, std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Image> images(count);
  for (Image& image : images) {
    for (const model::TensorId id : plan.inputs) {
      for (std::size_t i = 0; i < plan.tensors[id].shape.elements(); ++i) {
        image.push_back(static_cast<std::uint8_t>(random()));
      }
    }
  }
  return images;
}

using Expected = std::vector<std::vector<std::vector<std::int32_t>>>;  // image, output, element

// expected_outputs asks the reference interpreter, which shares no code with the runtime.
inline Expected expected_outputs(const model::Plan& plan, const std::vector<Image>& images) {
  Expected out;
  for (const Image& image : images) {
    std::vector<importer::Codes> inputs;
    auto at = image.begin();
    for (const model::TensorId id : plan.inputs) {
      const auto n = static_cast<std::ptrdiff_t>(plan.tensors[id].shape.elements());
      inputs.emplace_back(at, at + n);
      at += n;
    }
    out.push_back(importer::run_reference(plan, inputs));
  }
  return out;
}

// Rig is an executor with everything that it needs around it.
struct Rig {
  explicit Rig(model::Plan the_plan) : plan(std::move(the_plan)) {
    placement = runtime::default_placement(plan);
    options.cpu = base::detect_cpu();
    options.micro_batch = 3;
    options.in_flight = 2;
    options.timeout = std::chrono::milliseconds(60'000);
  }

  model::Plan plan;
  runtime::Placement placement;
  runtime::Options options;
  std::size_t num_ports = 1;
  std::vector<std::unique_ptr<TestPort>> ports;
  std::unique_ptr<TestPads> pads;
  std::unique_ptr<TestRandom> random;
  std::unique_ptr<runtime::Executor> executor;

  void start() {
    executor.reset();
    ports.clear();
    std::vector<channel::Port*> list;
    for (std::size_t i = 0; i < num_ports; ++i) {
      ports.push_back(std::make_unique<TestPort>(
          plan, runtime::port_bytes(plan, placement, options) + 64 * options.in_flight));
      list.push_back(ports.back().get());
    }
    pads.reset();
    if (options.privacy != model::Privacy::kOff) pads = std::make_unique<TestPads>(plan);
    auto made = runtime::Executor::create(plan, placement, options, list, pads.get(), random.get());
    ASSERT_TRUE(made.ok()) << made.error().message;
    executor = std::move(*made);
  }

  Status run(const std::vector<Image>& images, ListSink& sink) {
    ListSource source(images);
    return executor->run(source, sink);
  }

  // expect_right runs the images and compares every output with the reference.
  void expect_right(const std::vector<Image>& images, const Expected& expected) {
    ListSink sink;
    const Status done = run(images, sink);
    EXPECT_TRUE(done.ok());
    EXPECT_TRUE(sink.in_order);
    ASSERT_EQ(sink.entries.size(), images.size());
    for (std::size_t i = 0; i < images.size(); ++i) {
      ASSERT_FALSE(sink.entries[i].error) << sink.entries[i].error->message;
      ASSERT_EQ(sink.entries[i].outputs, expected[i]) << "image " << i;
    }
    if (pads) {
      EXPECT_FALSE(pads->misused);
      EXPECT_EQ(pads->live(), 0U);
    }
  }
};

// The processors that the kernels can be made to believe in.
struct NamedCpu {
  const char* name;
  base::CpuFeatures cpu;
};
inline std::vector<NamedCpu> cpu_levels() {
  const base::CpuFeatures all = base::detect_cpu();
  std::vector<NamedCpu> levels = {{"portable", {}}};
  if (all.avx2) {
    base::CpuFeatures cpu;
    cpu.sse41 = cpu.avx2 = cpu.aes = true;
    levels.push_back({"avx2", cpu});
  }
  if (all.avx512) {
    base::CpuFeatures cpu = all;
    cpu.avx512_ifma = cpu.avx512_vbmi = cpu.avx512_vnni = cpu.amx_int8 = false;
    levels.push_back({"avx512", cpu});
    levels.push_back({"all", all});
  }
  return levels;
}

}  // namespace slalom::testing
