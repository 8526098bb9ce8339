// SPDX-License-Identifier: Apache-2.0
// Every layer of whole networks x integrity form x privacy, one resident liar and one resident
// trusted process a network: all lies are caught. The quick variant (CI) tells four lies at each
// point, which rotate through all kinds; with SLALOM_ALL_LIES every kind is told at every point.
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>

#include "importer/convert.h"
#include "system/liar_bench.h"

namespace slalom {
namespace {

using host::Modes;
using model::Integrity;
using model::Privacy;
using testing::Folder;
using testing::LiarBench;
using testing::Lie;

constexpr Lie kGroups[][4] = {
    {Lie::kBit, Lie::kPair, Lie::kLastBatch, Lie::kAboveP},
    {Lie::kElement, Lie::kPositions, Lie::kZeros, Lie::kOtherLayer},
    {Lie::kImages, Lie::kConstant, Lie::kShort, Lie::kSequence},
    {Lie::kLong, Lie::kStatus, Lie::kBit, Lie::kNever},
    {Lie::kFailed, Lie::kLate, Lie::kNever, Lie::kLate},
};
#ifdef SLALOM_ALL_LIES
constexpr bool kAll = true;
#else
constexpr bool kAll = false;
#endif

struct Network {
  const char* name;
  std::uint32_t input_size;
  bool demo = false;  // the demo's, from its ONNX file, and not one of the zoo
};

void PrintTo(const Network& network, std::ostream* out) { *out << network.name; }

// write_smaller copies an ONNX file whose pictures become `size` pixels wide and high.
void write_smaller(const std::string& from, const std::string& to, std::uint32_t size) {
  onnx::ModelProto model;
  std::ifstream file(from, std::ios::binary);
  ASSERT_TRUE(model.ParseFromIstream(&file)) << from;
  auto& shape = *model.mutable_graph()
                     ->mutable_input(0)
                     ->mutable_type()
                     ->mutable_tensor_type()
                     ->mutable_shape();
  ASSERT_EQ(shape.dim_size(), 4);
  shape.mutable_dim(2)->set_dim_value(size);
  shape.mutable_dim(3)->set_dim_value(size);
  model.mutable_graph()->clear_value_info();
  std::ofstream out(to, std::ios::binary);
  ASSERT_TRUE(model.SerializeToOstream(&out));
}

class LieMatrix : public ::testing::TestWithParam<std::tuple<Network, Privacy>> {
 protected:
  [[nodiscard]] const Network& network() const { return std::get<0>(GetParam()); }
  // The demo's weights, and so its layers' fields, are those of the demo; its calibration pictures
  // would only change the scales of activations.
  [[nodiscard]] importer::ImportResult<importer::ConvertOutput> make() const {
    if (!network().demo) {
      return importer::make_model(network().name,
                                  {.input_size = network().input_size, .classes = 10});
    }
    importer::ConvertOptions options;
    options.path = folder_.file("model.onnx");
    write_smaller(std::string(SLALOM_MODELS "/") + network().name + "/model.onnx", options.path,
                  network().input_size);
    options.samples = importer::zoo_samples(1, 1);
    options.quantise = importer::zoo_quantise_options();
    return importer::convert(options);
  }
  // make_plan writes the network's plan to a file and decodes it.
  void make_plan() {
    const auto made = make();
    ASSERT_FALSE(HasFatalFailure());
    ASSERT_TRUE(made.ok()) << made.error().message();
    const auto& bytes = made.value().plan;
    std::ofstream(plan_file_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    auto plan = model::decode_plan(bytes);
    ASSERT_TRUE(plan.ok());
    plan_ = std::move(*plan);
  }

  Folder folder_;
  std::string plan_file_ = folder_.file("plan.slalom");
  model::Plan plan_;
};

TEST_P(LieMatrix, EveryLieIsCaught) {
  ASSERT_NO_FATAL_FAILURE(make_plan());
  LiarBench bench(plan_file_, folder_.file("liar"), 2);
  const auto placement = runtime::default_placement(plan_);
  std::size_t told = 0;
  std::size_t points = 0;
  for (const Integrity form : {Integrity::kPlain, Integrity::kBatched, Integrity::kPreprocessed}) {
    Modes modes;
    modes.options.integrity = form;
    modes.options.privacy = std::get<1>(GetParam());
    modes.options.threads = 1;
    modes.options.micro_batch = kAll ? 2 : 1;
    modes.options.in_flight = 1;
    modes.options.timeout = std::chrono::milliseconds(50);
    for (std::uint32_t layer = 0; layer < placement.remote.size(); ++layer) {
      if (!placement.remote[layer]) continue;
      ++points;
      for (std::size_t g = 0; g < std::size(kGroups); ++g) {
        if (!kAll && g != points % 4) continue;
        SCOPED_TRACE(::testing::Message() << network().name << ", form " << static_cast<int>(form)
                                          << ", layer " << layer << ", group " << g);
        told +=
            testing::expect_caught(bench, modes, layer, kGroups[g], static_cast<unsigned>(points));
        if (HasFailure()) return;
      }
    }
  }
  EXPECT_EQ(told, points * 4 * (kAll ? std::size(kGroups) : 1));
  EXPECT_GE(points, 3U * 13);
  std::printf("%s: %zu lies told at %zu points, all caught\n", network().name, told, points);
}

const auto kEveryNetwork = ::testing::Combine(
    ::testing::Values(Network{"vgg16", 32}, Network{"mobilenet", 32}, Network{"mobilenet_sep", 32},
                      Network{"resnet50", 32}, Network{"inception_v3", 75},
                      Network{"efficientnet_lite0", 32, true}),
    ::testing::Values(Privacy::kOff, Privacy::kPads));
std::string name_of(const ::testing::TestParamInfo<LieMatrix::ParamType>& point) {
  const bool pads = std::get<1>(point.param) == Privacy::kPads;
  return std::string(std::get<0>(point.param).name) + (pads ? "_pads" : "_open");
}
#ifdef SLALOM_ALL_LIES
INSTANTIATE_TEST_SUITE_P(AllLies, LieMatrix, kEveryNetwork, name_of);
#else
INSTANTIATE_TEST_SUITE_P(FourLies, LieMatrix, kEveryNetwork, name_of);
#endif

}  // namespace
}  // namespace slalom
