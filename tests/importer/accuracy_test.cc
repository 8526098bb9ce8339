// SPDX-License-Identifier: Apache-2.0
// Trained networks, float against integers: what quantisation costs where it counts. Each build
// runs the first 1,000 test images; all 10,000 (ctest label slow) give the figures of
// docs/quantisation.md. Ranges come from training images alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "cli/array.h"
#include "cli/image.h"
#include "cli/preprocess.h"
#include "importer/convert.h"
#include "importer/fold.h"
#include "importer/interpreter.h"
#include "importer/onnx_reader.h"
#include "importer/reference.h"

namespace slalom::importer {
namespace {

constexpr const char* kFashion = "/usr/share/datasets/fashion-mnist/";
constexpr std::size_t kFewImages = 1'000;
constexpr std::size_t kAllImages = 10'000;
constexpr std::size_t kCalibrationImages = 128;
constexpr double kMostLostPoints = 0.5;

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}
std::vector<std::byte> read_bytes(const std::string& path) {
  const std::string text = read_text(path);
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::uint8_t> read_idx(const std::string& name) {
  const auto raw = cli::gunzip(read_bytes(kFashion + name), std::uint64_t{1} << 30);
  const auto array = cli::decode_idx(raw.value());
  return std::get<std::vector<std::uint8_t>>(array.value().values);
}

Graph float_network(const std::string& path) { return fold(read_onnx(path).value()).value(); }

// best returns the indices of the largest scores, best first.
template <class T>
std::vector<std::size_t> best(const std::vector<T>& scores, std::size_t count) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(count);
  return order;
}

// Pictures is the Fashion-MNIST images of one file as inputs.
class Pictures {
 public:
  static constexpr model::Shape kShape = {28, 28, 1};

  Pictures(const std::string& file, model::Preprocess how)
      : pixels_(read_idx(file)), how_(std::move(how)) {}

  [[nodiscard]] std::vector<float> reals(std::size_t i) const {
    const std::size_t size = kShape.elements();
    cli::Image image{.height = 28, .width = 28, .channels = 1, .pixels = {}};
    const auto from = pixels_.begin() + static_cast<std::ptrdiff_t>(i * size);
    image.pixels.assign(from, from + static_cast<std::ptrdiff_t>(size));
    return cli::normalise(image, how_);
  }

 private:
  std::vector<std::uint8_t> pixels_;
  model::Preprocess how_;
};

// quantised converts a network with ranges from training images.
model::Plan quantised(const std::string& path, const Pictures& training,
                      const model::Preprocess& how) {
  ConvertOptions options;
  options.path = path;
  options.preprocess = how;
  options.quantise.report_samples = 0;
  options.samples = {.count = kCalibrationImages,
                     .get = [&](std::span<const InputInfo> inputs, std::size_t i) {
                       return picture_sample(inputs, Pictures::kShape, training.reals(i));
                     }};
  const auto converted = convert(options);
  if (!converted) {
    ADD_FAILURE() << converted.error().message();
    return {};
  }
  return std::move(model::decode_plan(converted.value().plan)).value();
}

std::vector<std::size_t> answers_of(const Graph& graph, const Pictures& pictures,
                                    std::size_t count) {
  std::vector<std::size_t> answers;
  for (std::size_t i = 0; i < count; ++i) {
    const auto sample = picture_sample(input_info(graph), Pictures::kShape, pictures.reals(i));
    const auto scores = run(graph, sample.value()).value();
    const auto view = scores[0].view<float>();
    answers.push_back(best(std::vector<float>(view.begin(), view.end()), 1)[0]);
  }
  return answers;
}

std::vector<std::size_t> answers_of(const model::Plan& plan, const Pictures& pictures,
                                    std::size_t count) {
  std::vector<std::vector<Codes>> images;
  for (std::size_t i = 0; i < count; ++i) {
    images.push_back({encode_reals(plan.tensors[plan.inputs[0]], pictures.reals(i))});
  }
  std::vector<std::size_t> answers;
  for (const auto& outputs : run_reference_batch(plan, images)) {
    answers.push_back(best(outputs[0], 1)[0]);
  }
  return answers;
}

struct Extent {
  const char* network;
  std::size_t images;
};
class FashionMnist : public ::testing::TestWithParam<Extent> {};

TEST_P(FashionMnist, IntegersLoseAtMostHalfAPoint) {
  if (!std::filesystem::exists(kFashion)) {
    GTEST_SKIP() << "no " << kFashion << ": apt-get install dataset-fashion-mnist";
  }
  const auto& [network, count] = GetParam();
  const std::string folder = SLALOM_MODELS "/fashion_mnist/";
  const std::string path = folder + network + ".onnx";
  const model::Preprocess how = parse_preprocess(read_text(folder + "preprocess.json")).value();
  const Pictures training("train-images-idx3-ubyte.gz", how);
  const Pictures test("t10k-images-idx3-ubyte.gz", how);
  const std::vector<std::uint8_t> labels = read_idx("t10k-labels-idx1-ubyte.gz");
  ASSERT_EQ(labels.size(), kAllImages);

  const model::Plan plan = quantised(path, training, how);
  const std::vector<std::size_t> float_answers = answers_of(float_network(path), test, count);
  const std::vector<std::size_t> answers = answers_of(plan, test, count);
  std::size_t float_right = 0;
  std::size_t right = 0;
  std::size_t same = 0;
  for (std::size_t i = 0; i < count; ++i) {
    float_right += float_answers[i] == labels[i] ? 1 : 0;
    right += answers[i] == labels[i] ? 1 : 0;
    same += answers[i] == float_answers[i] ? 1 : 0;
  }
  const auto percent = [total = static_cast<double>(count)](std::size_t n) {
    return 100.0 * static_cast<double>(n) / total;
  };
  std::printf("%s: %zu images, top-1 float %.2f, integer %.2f, same answer %.2f\n", network, count,
              percent(float_right), percent(right), percent(same));
  if (count == kAllImages) {
    // What ONNX Runtime gives, to one image in ten thousand of rounding.
    const auto facts = nlohmann::json::parse(read_text(folder + network + ".json"));
    EXPECT_NEAR(percent(float_right), facts.at("float_top1").get<double>(), 0.0101);
  }
  EXPECT_GE(percent(float_right), 90.0);
  EXPECT_LE(percent(float_right) - percent(right), kMostLostPoints);
  EXPECT_GE(percent(same), 99.0);
}

INSTANTIATE_TEST_SUITE_P(Few, FashionMnist,
                         ::testing::Values(Extent{"vgg", kFewImages},
                                           Extent{"resnet20", kFewImages},
                                           Extent{"mobilenet", kFewImages}),
                         [](const auto& test) { return std::string(test.param.network); });
INSTANTIATE_TEST_SUITE_P(All, FashionMnist,
                         ::testing::Values(Extent{"vgg", kAllImages},
                                           Extent{"resnet20", kAllImages},
                                           Extent{"mobilenet", kAllImages}),
                         [](const auto& test) { return std::string(test.param.network); });

std::vector<std::string> photographs(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(SLALOM_MODELS + folder)) {
    if (entry.path().extension() == ".jpg") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(EfficientNetLite0, AgreesWithFloatOnPhotographs) {
  const std::string folder = SLALOM_MODELS "/efficientnet_lite0/";
  ConvertOptions options;
  options.path = folder + "model.onnx";
  options.preprocess = parse_preprocess(read_text(folder + "preprocess.json")).value();
  options.labels = parse_labels(read_text(SLALOM_MODELS "/labels/imagenet.txt")).value();
  const model::Shape shape = {options.preprocess->crop_h, options.preprocess->crop_w, 3};
  const auto reals = [&](const std::string& file) {
    const auto picture = cli::decode_image(read_bytes(file));
    return cli::normalise(cli::prepare(picture.value(), *options.preprocess).value(),
                          *options.preprocess);
  };
  const std::vector<std::string> calibration = photographs("/calibration");
  options.samples = {.count = calibration.size(),
                     .get = [&](std::span<const InputInfo> inputs, std::size_t i) {
                       return picture_sample(inputs, shape, reals(calibration[i]));
                     }};
  options.quantise.report_samples = 0;
  const auto converted = convert(options);
  ASSERT_TRUE(converted.ok()) << converted.error().message();
  const auto plan = model::decode_plan(converted.value().plan);
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->labels.size(), 1000U);

  const Graph graph = float_network(options.path);
  const std::vector<std::string> photos = photographs("/photos");
  ASSERT_GE(photos.size(), 5U);
  std::size_t first = 0;
  std::size_t shared = 0;
  for (const std::string& file : photos) {
    const std::vector<float> pixels = reals(file);
    const auto sample = picture_sample(input_info(graph), shape, pixels).value();
    const auto scores = run(graph, sample).value()[0];
    const auto view = scores.view<float>();
    const auto expected = best(std::vector<float>(view.begin(), view.end()), 5);
    const std::vector<Codes> input = {encode_reals(plan->tensors[plan->inputs[0]], pixels)};
    const auto found = best(run_reference(plan.value(), input)[0], 5);
    first += expected[0] == found[0] ? 1 : 0;
    for (const std::size_t c : expected) {
      shared += static_cast<std::size_t>(std::count(found.begin(), found.end(), c));
    }
    std::printf("%-16s float: %-22s integer: %s\n", std::filesystem::path(file).filename().c_str(),
                plan->labels[expected[0]].c_str(), plan->labels[found[0]].c_str());
  }
  std::printf("EfficientNet-Lite0: %zu photographs, same top-1 %zu, of the top 5 shared %.2f\n",
              photos.size(), first,
              static_cast<double>(shared) / static_cast<double>(photos.size()));
  EXPECT_EQ(first, photos.size());
  EXPECT_GE(static_cast<double>(shared), 4.4 * static_cast<double>(photos.size()));
}

}  // namespace
}  // namespace slalom::importer
