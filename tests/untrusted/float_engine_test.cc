// SPDX-License-Identifier: Apache-2.0
#include "untrusted/baseline/float_engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "importer/reference.h"
#include "support/engine_runs.h"
#include "support/plans.h"
#include "trusted/runtime/random_plan.h"

namespace slalom {
namespace {

using testing::Answers;
using testing::Folder;
using testing::Images;

// soft_tables gives layers tables without jumps: between two entries of a random one the float
// network may be anywhere.
model::Plan soft_tables(model::Plan plan) {
  for (model::Node& node : plan.nodes) {
    auto* linear = std::get_if<model::Linear>(&node.op);
    if (linear == nullptr || linear->requant.table.empty()) continue;
    for (std::size_t i = 0; i < 256; ++i) {
      linear->requant.table[i] = static_cast<std::uint8_t>(255 - i / 2);
    }
  }
  return plan;
}

Answers run(const model::Plan& plan, std::uint64_t images, std::size_t micro_batch) {
  const Folder folder;
  auto engine = baseline::start_float_engine(
      {.plan_file = folder.write("plan", plan),
       .modes = {.options = {.threads = 2, .micro_batch = micro_batch}}});
  EXPECT_TRUE(engine.ok());
  Images source(images, 5);
  Answers out;
  EXPECT_TRUE((*engine)->run(source, out).ok());
  return out;
}

std::vector<std::int32_t> widened(const Answers::Tensor& t) {
  return t.integers.empty() ? std::vector<std::int32_t>(t.codes.begin(), t.codes.end())
                            : t.integers;
}

// The integers of one operator differ from the rounded real values by their own rounding only.
TEST(FloatEngine, AgreesWithTheIntegersOfEveryOperator) {
  constexpr std::uint64_t kImages = 3;
  std::set<std::size_t> seen;
  for (unsigned seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    const model::Plan plan = soft_tables(testing::random_plan(seed, 1));
    ASSERT_TRUE(model::validate(plan).ok());
    for (const model::Node& node : plan.nodes) seen.insert(node.op.index());
    const Answers got = run(plan, kImages, 2);
    ASSERT_EQ(got.released.size(), kImages);
    Images source(kImages, 5);
    std::size_t bytes = 0;
    for (const auto id : plan.inputs) bytes += plan.tensors[id].shape.elements();
    for (const Answers::Image& image : got.released) {
      std::vector<std::uint8_t> codes(bytes);
      ASSERT_TRUE(source.next(codes));
      std::vector<importer::Codes> inputs;
      auto at = codes.begin();
      for (const auto id : plan.inputs) {
        const auto n = static_cast<std::ptrdiff_t>(plan.tensors[id].shape.elements());
        inputs.emplace_back(at, at + n);
        at += n;
      }
      const auto expected = importer::run_reference(plan, inputs);
      ASSERT_EQ(image.outputs.size(), expected.size());
      for (std::size_t o = 0; o < expected.size(); ++o) {
        const std::vector<std::int32_t> values = widened(image.outputs[o]);
        ASSERT_EQ(values.size(), expected[o].size());
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double allowed = 1.0 + 1e-5 * std::abs(static_cast<double>(expected[o][i]));
          ASSERT_LE(std::abs(static_cast<double>(values[i]) - expected[o][i]), allowed)
              << "output " << o << " element " << i << ": " << values[i] << " for "
              << expected[o][i];
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), std::variant_size_v<model::Op>);  // every operator was met
}

TEST(FloatEngine, SizesOfBatchesChangeNothing) {
  const model::Plan plan = testing::small_network();
  const Answers one = run(plan, 5, 1);
  ASSERT_EQ(one.released.size(), 5U);
  for (const std::size_t batch : {2U, 4U, 64U}) {
    const Answers other = run(plan, 5, batch);
    ASSERT_EQ(other.released.size(), 5U);
    for (std::size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(other.released[i].number, i);
      for (std::size_t o = 0; o < one.released[i].outputs.size(); ++o) {
        const auto a = widened(one.released[i].outputs[o]);
        const auto b = widened(other.released[i].outputs[o]);
        ASSERT_EQ(a.size(), b.size());
        for (std::size_t j = 0; j < a.size(); ++j) EXPECT_LE(std::abs(a[j] - b[j]), 1);
      }
    }
  }
}

TEST(FloatEngine, HasNothingToProtect) {
  const Folder folder;
  auto engine =
      baseline::start_float_engine({.plan_file = folder.write("plan", testing::small_network())});
  ASSERT_TRUE(engine.ok());
  EXPECT_EQ((*engine)->pad_stock().failure().code, Errc::kInvalidArgument);
  EXPECT_EQ((*engine)->report().failure().code, Errc::kInvalidArgument);
  const auto missing = baseline::start_float_engine({.plan_file = folder.file("none")});
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.failure().message.find("none"), std::string::npos);
}

}  // namespace
}  // namespace slalom
