// SPDX-License-Identifier: Apache-2.0
// The parts of the quantiser one by one: views, histograms, report, texts.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "importer/convert.h"
#include "importer/ops/op.h"
#include "importer/quant/calibrate.h"
#include "importer/quant/ranges.h"
#include "importer/quant/view.h"
#include "importer/report.h"

namespace slalom::importer {
namespace {

// Any series of Transpose and Reshape on a view gives the elements that moving them would give.
TEST(View, FollowsTransposesAndReshapes) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    Shape shape = {1, 4, 6, 6};
    View view = contiguous_view(shape, image_groups(4));
    // The value's elements in its own order, as positions in memory: the starting point by hand.
    std::vector<std::uint32_t> elements;
    for (std::uint32_t c = 0; c < 4; ++c) {
      for (std::uint32_t p = 0; p < 36; ++p) elements.push_back(p * 4 + c);
    }
    for (int step = 0; step < 4; ++step) {
      if (random() % 2 == 0) {
        std::vector<std::size_t> perm(shape.size());
        std::iota(perm.begin(), perm.end(), std::size_t{0});
        std::shuffle(perm.begin(), perm.end(), random);
        // Move the elements for real.
        Shape moved;
        for (const std::size_t axis : perm) moved.push_back(shape[axis]);
        std::vector<std::uint32_t> result(elements.size());
        for (std::size_t i = 0; i < result.size(); ++i) {
          std::size_t rest = i;
          std::vector<std::size_t> index(shape.size());
          for (std::size_t axis = moved.size(); axis-- > 0;) {
            index[perm[axis]] = rest % static_cast<std::size_t>(moved[axis]);
            rest /= static_cast<std::size_t>(moved[axis]);
          }
          std::size_t from = 0;
          for (std::size_t axis = 0; axis < shape.size(); ++axis) {
            from = from * static_cast<std::size_t>(shape[axis]) + index[axis];
          }
          result[i] = elements[from];
        }
        View turned;
        for (const std::size_t axis : perm) turned.push_back(view[axis]);
        view = turned;
        shape = moved;
        elements = result;
      } else {
        const std::vector<Shape> shapes = {{144}, {12, 12}, {2, 2, 6, 6}, {4, 1, 36}, {2, 3, 4, 6}};
        const Shape wanted = shapes[random() % shapes.size()];
        const auto changed = reshaped(view, wanted);
        if (!changed) continue;  // would need codes to move
        view = *changed;
        shape = wanted;
      }
      ASSERT_EQ(view_shape(view), shape);
      ASSERT_EQ(memory_order(view), elements);
    }
  }
}

TEST(View, KnowsWhatIsContiguous) {
  const View image = contiguous_view({1, 3, 5, 7}, image_groups(4));
  EXPECT_TRUE(is_contiguous(image, image_groups(4)));
  EXPECT_FALSE(is_contiguous(image, natural_groups(4)));
  EXPECT_EQ(groups_of(image, {5, 7, 3}), (Groups{{{2}, {3}, {1}}}));
  EXPECT_EQ(groups_of(image, {1, 35, 3}), (Groups{{{}, {2, 3}, {1}}}));
  EXPECT_FALSE(groups_of(image, {3, 5, 7}).has_value());
}

std::vector<float> heavy_tailed(std::size_t count) {
  std::mt19937 random(5);
  std::normal_distribution<float> draw;
  std::vector<float> values(count);
  for (float& v : values) v = draw(random);
  values[0] = 60.0F;
  values[1] = -40.0F;
  return values;
}

TEST(Histogram, CalibratorsTreatOutliersAsTheyShould) {
  Histogram histogram;
  const std::vector<float> values = heavy_tailed(100'000);
  histogram.add(values);
  EXPECT_EQ(histogram.min_max().hi, 60.0);
  EXPECT_EQ(histogram.min_max().lo, -40.0);
  const RealRange cut = histogram.percentile(99.9);
  // 0.05% beyond either end of a normal distribution: 3.29 deviations.
  EXPECT_NEAR(cut.hi, 3.29, 0.2);
  EXPECT_NEAR(cut.lo, -3.29, 0.2);
  EXPECT_EQ(histogram.percentile(100.0).hi, 60.0);
  const auto squared_error = [&](const RealRange& range) {
    const Quant quant = quant_of(range);
    double sum = 0.0;
    for (const float v : values) {
      const double q =
          std::clamp(std::nearbyint(v / double{quant.scale}) + quant.zero_point, 0.0, 255.0);
      const double back = (q - quant.zero_point) * quant.scale;
      sum += (back - v) * (back - v);
    }
    return sum;
  };
  const double least = squared_error(histogram.least_error());
  EXPECT_LT(least, squared_error(histogram.min_max()));
  EXPECT_LT(least, squared_error(cut));
}

TEST(Histogram, DoesNotDependOnTheOrderOfItsParts) {
  Histogram one;
  Histogram two;
  std::vector<float> values = heavy_tailed(5000);
  one.add(values);
  std::reverse(values.begin(), values.end());
  for (std::size_t i = 0; i < values.size(); i += 500) {
    two.add(std::span(values).subspan(i, 500));
  }
  EXPECT_EQ(one.least_error().hi, two.least_error().hi);
  EXPECT_EQ(one.percentile(99).lo, two.percentile(99).lo);
}

TEST(Histogram, RefusesWhatIsNotFinite) {
  Histogram histogram;
  const std::vector<float> values = {1.0F, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_THROW(histogram.add(values), Failure);
}

TEST(Histogram, OfZerosHasAnEmptyRange) {
  Histogram histogram;
  histogram.add(std::vector<float>(10, 0.0F));
  EXPECT_EQ(quant_of(histogram.least_error()), (Quant{1.0F, 0}));
}

TEST(Quant, RepresentsZeroExactlyAndKeepsSigns) {
  EXPECT_EQ(quant_of({0.0, 6.0}).zero_point, 0);
  EXPECT_EQ(quant_of({-6.0, 0.0}).zero_point, 255);
  const Quant both = quant_of({-1.0, 3.0});
  EXPECT_EQ(both.zero_point, 64);
  EXPECT_FLOAT_EQ(both.scale, 4.0F / 255);
}

TEST(Report, JsonAndTableSayTheSame) {
  Report report;
  report.name = "net";
  report.calibrator = "mse";
  report.samples = 3;
  report.macs = 12'000'000;
  report.notes = {"something to know"};
  NodeReport conv;
  conv.name = "conv\xff with a name that is much longer than the table is wide";
  conv.op = "Linear";
  conv.out = {4, 5, 6};
  conv.macs = 12'000'000;
  conv.field = field::Field::kP31;
  conv.bound = 536870911;
  conv.scale_loss = 0.25;
  conv.channels_scaled = 2;
  conv.snr_db = 31.25;
  NodeReport pool;
  pool.name = "pool";
  pool.op = "MaxPool";
  report.nodes = {conv, pool};
  const auto json = nlohmann::json::parse(report_json(report));
  EXPECT_EQ(json["nodes"][0]["field"], "p31");
  EXPECT_EQ(json["nodes"][0]["bound"], 536870911);
  EXPECT_NEAR(json["nodes"][0]["bound_of_field"].get<double>(), 0.5, 1e-6);
  EXPECT_EQ(json["nodes"][0]["channels_scaled"], 2);
  EXPECT_FALSE(json["nodes"][1].contains("bound"));
  EXPECT_FALSE(json["nodes"][1].contains("snr_db"));
  EXPECT_EQ(json["notes"][0], "something to know");
  const std::string table = report_table(report);
  for (const char* text : {"p31", "50.0%", "25.0%", "31.2", "4x5x6", "something to know"}) {
    EXPECT_NE(table.find(text), std::string::npos) << text;
  }
  std::size_t start = 0;
  for (std::size_t end = 0; (end = table.find('\n', start)) != std::string::npos; start = end + 1) {
    EXPECT_LE(end - start, 130U);
  }
}

TEST(Texts, PreprocessIsReadStrictly) {
  const auto good = parse_preprocess(
      R"({"crop": [10, 20], "resize_shorter": 30, "interpolation": "bicubic", "layout": "BGR",
          "mean": [1, 2, 3.5], "std": [4, 5, 6]})");
  ASSERT_TRUE(good.ok()) << good.error().message();
  EXPECT_EQ(good.value().crop_h, 10U);
  EXPECT_EQ(good.value().crop_w, 20U);
  EXPECT_EQ(good.value().resize_shorter, 30U);
  EXPECT_TRUE(good.value().bgr);
  EXPECT_EQ(good.value().interpolation, model::Interpolation::kBicubic);
  EXPECT_EQ(good.value().mean[2], 3.5F);
  const auto grey = parse_preprocess(R"({"crop": 28, "layout": "L", "mean": [5]})");
  ASSERT_TRUE(grey.ok());
  EXPECT_EQ(grey.value().std, std::vector<float>{1.0F});
  for (const char* bad :
       {"", "[]", "{", "{}", R"({"crop": 0})", R"({"crop": -1})", R"({"crop": 1.5})",
        R"({"crop": 8, "crops": 8})", R"({"crop": 8, "mean": [1]})",
        R"({"crop": 8, "std": [1, 1, 0]})", R"({"crop": 8, "mean": ["a", 1, 1]})",
        R"({"crop": 8, "mean": [1e999, 1, 1]})", R"({"crop": 8, "layout": "XYZ"})",
        R"({"crop": 8, "interpolation": 3})", R"({"crop": [1, 2, 3]})", R"({"crop": 99999999})"}) {
    EXPECT_FALSE(parse_preprocess(bad).ok()) << bad;
  }
}

TEST(Texts, LabelsAreOneALine) {
  EXPECT_EQ(parse_labels("a\nb c\r\n\nd").value(), (std::vector<std::string>{"a", "b c", "", "d"}));
  EXPECT_EQ(parse_labels("a\n").value().size(), 1U);
  EXPECT_TRUE(parse_labels("").value().empty());
  EXPECT_FALSE(parse_labels("a\x01").ok());
  EXPECT_FALSE(parse_labels(std::string(5000, 'a')).ok());
}

TEST(PictureSample, FollowsTheNetworksOrder) {
  const std::vector<float> pixels = {1, 2, 3, 4, 5, 6};  // 1x2 with 3 channels
  const std::vector<InputInfo> first = {{"x", {1, 3, 1, 2}, DType::kFloat32}};
  const std::vector<InputInfo> last = {{"x", {1, 1, 2, 3}, DType::kFloat32}};
  const auto planar = picture_sample(first, {1, 2, 3}, pixels);
  ASSERT_TRUE(planar.ok());
  EXPECT_EQ(planar.value()[0], Tensor::of({1, 3, 1, 2}, std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(picture_sample(last, {1, 2, 3}, pixels).value()[0], Tensor::of({1, 1, 2, 3}, pixels));
  EXPECT_FALSE(picture_sample(first, {2, 1, 3}, pixels).ok());
  EXPECT_FALSE(picture_sample({}, {1, 2, 3}, pixels).ok());
}

}  // namespace
}  // namespace slalom::importer
