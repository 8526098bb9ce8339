// SPDX-License-Identifier: Apache-2.0
#include "cli/scores.h"

#include <gtest/gtest.h>

#include <vector>

namespace slalom::cli {
namespace {

model::Plan classifier(model::Final function) {
  model::Plan plan;
  plan.tensors = {{"scores", {1, 1, 3}, model::Dtype::kU8, 0.5F, 100}};
  plan.outputs = {{0, function}};
  plan.labels = {"a", "b"};
  return plan;
}

TEST(Scores, SoftmaxOnlyWhereTheNetworkEndedInOne) {
  const std::vector<std::int32_t> codes{100, 102, 98};
  const model::Plan plain = classifier(model::Final::kNone);
  EXPECT_EQ(scoring_of(plain, false), Scoring::kRaw);
  EXPECT_EQ(scoring_of(plain, true), Scoring::kSoftmax);
  EXPECT_EQ(scores(plain, Scoring::kRaw, codes), (std::vector<double>{0, 1, -1}));
  for (const model::Final f : {model::Final::kSoftmax, model::Final::kLogSoftmax}) {
    EXPECT_EQ(scoring_of(classifier(f), false), Scoring::kSoftmax);
    const auto p = scores(classifier(f), Scoring::kSoftmax, codes);
    // e^0, e^1, e^-1 over their sum.
    EXPECT_NEAR(p[0], 0.24472847, 1e-7);
    EXPECT_NEAR(p[1], 0.66524096, 1e-7);
    EXPECT_NEAR(p[2], 0.09003057, 1e-7);
  }
}

TEST(Scores, APlanThatEndsInASoftmaxGivesProbabilities) {
  model::Plan plan = classifier(model::Final::kNone);
  plan.nodes.push_back({"softmax", {0}, 0, model::Softmax{}});
  EXPECT_EQ(scoring_of(plan, true), Scoring::kAsTheyAre);
}

TEST(Scores, SoftmaxOfLargeValuesIsFinite) {
  const auto p = softmax(std::vector<float>{1e30F, 1e30F, -1e30F});
  EXPECT_EQ(p, (std::vector<double>{0.5, 0.5, 0}));
}

TEST(Scores, TopIsStable) {
  const auto best = top(std::vector<double>{1, 3, 3, 2}, 9);
  ASSERT_EQ(best.size(), 4U);
  EXPECT_EQ(best[0].index, 1U);
  EXPECT_EQ(best[1].index, 2U);
  EXPECT_EQ(best[2].index, 3U);
  EXPECT_EQ(best[3].index, 0U);
  EXPECT_EQ(top(std::vector<double>{1, 3}, 1).size(), 1U);
}

TEST(Scores, LabelsFallBackToNumbers) {
  const model::Plan plan = classifier(model::Final::kNone);
  EXPECT_EQ(label_of(plan, 1), "b");
  EXPECT_EQ(label_of(plan, 2), "class 2");
  EXPECT_TRUE(is_classifier(plan));
}

}  // namespace
}  // namespace slalom::cli
