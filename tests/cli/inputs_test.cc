// SPDX-License-Identifier: Apache-2.0
#include "cli/inputs.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/failure.h"
#include "vectors.h"

namespace slalom::cli {
namespace {

model::Preprocess eight_by_eight() {
  model::Preprocess how;
  how.crop_h = how.crop_w = 8;
  how.mean = {127, 127, 127};
  how.std = {64, 64, 64};
  return how;
}

Errc code_of(const std::vector<InputSpec>& specs, std::optional<model::Preprocess> how,
             const std::string& name) {
  try {
    const InputSet inputs(specs, std::move(how), std::vector<std::string>{name});
    for (std::size_t i = 0; i < inputs.count(); ++i) (void)inputs.get(i);
  } catch (const Stop& stop) {
    EXPECT_NE(std::string(stop.what()).find(name), std::string::npos) << stop.what();
    return stop.code();
  }
  ADD_FAILURE() << name << " was accepted";
  return Errc::kInternal;
}

// f4.npy has shape (2, 3, 4): two images of three by four, or one of (h, w, c) = (3, 4, 2).
TEST(InputSet, TheShapeDecidesHowAnArrayIsRead) {
  const std::vector<std::string> names{vector_path("f4.npy")};
  const auto all = std::get<std::vector<float>>(decode_npy(vector_bytes("f4.npy"))->values);

  const InputSet first({{"x", {3, 4, 2}}}, std::nullopt, names);
  ASSERT_EQ(first.count(), 1U);
  EXPECT_EQ(first.name(0), names[0]);
  const std::vector<float> image = first.get(0)[0].reals;
  ASSERT_EQ(image.size(), all.size());
  for (std::size_t c = 0; c < 2; ++c) {
    for (std::size_t p = 0; p < 12; ++p) EXPECT_EQ(image[p * 2 + c], all[c * 12 + p]);
  }
  EXPECT_EQ(channels_first(image, {3, 4, 2}), all);

  const InputSet last({{"x", {2, 3, 4}}}, std::nullopt, names);
  ASSERT_EQ(last.count(), 1U);
  EXPECT_EQ(last.get(0)[0].reals, all);

  const InputSet sequence({{"x", {1, 3, 4}}}, std::nullopt, names);
  ASSERT_EQ(sequence.count(), 2U);
  EXPECT_EQ(sequence.name(1), names[0] + "[1]");
  EXPECT_EQ(sequence.get(1)[0].reals, std::vector<float>(all.begin() + 12, all.end()));
}

TEST(InputSet, BytesAreCodes) {
  const InputSet inputs({{"x", {2, 3, 4}}}, std::nullopt,
                        std::vector<std::string>{vector_path("u1.npy")});
  const InputValue value = inputs.get(0)[0];
  EXPECT_TRUE(value.reals.empty());
  EXPECT_EQ(value.codes, std::get<1>(decode_npy(vector_bytes("u1.npy"))->values));
}

TEST(InputSet, SeveralInputsTakeTheirArraysByName) {
  const std::vector<std::string> names{vector_path("stored.npz")};
  const InputSet inputs({{"u1", {2, 3, 4}}, {"vector", {1, 1, 5}}}, std::nullopt, names);
  ASSERT_EQ(inputs.count(), 1U);
  EXPECT_EQ(inputs.get(0)[0].codes.size(), 24U);
  EXPECT_EQ(inputs.get(0)[1].reals, (std::vector<float>{0, 1, 2, 3, 4}));
  EXPECT_EQ(code_of({{"u1", {2, 3, 4}}, {"none", {1, 1, 5}}}, std::nullopt, names[0]),
            Errc::kMalformed);
  EXPECT_EQ(code_of({{"f4", {1, 3, 4}}, {"vector", {1, 1, 5}}}, std::nullopt, names[0]),
            Errc::kMalformed);  // two images of one, one of the other
}

TEST(InputSet, RandomInputsAreAlwaysTheSame) {
  const std::vector<std::string> names{"random:3"};
  const InputSet a({{"x", {5, 5, 3}}}, std::nullopt, names);
  const InputSet b({{"x", {5, 5, 3}}}, std::nullopt, names);
  ASSERT_EQ(a.count(), 3U);
  EXPECT_EQ(a.get(1)[0].codes, b.get(1)[0].codes);
  EXPECT_NE(a.get(1)[0].codes, a.get(2)[0].codes);
  // The first bytes, written down: SplitMix64 of 0, 1, 2 gives e220a8397b1dcdaf, 6e789e6aa1b965f4,
  // 06c45d188009454f (the values that its authors publish).
  const auto codes = a.get(0)[0].codes;
  EXPECT_EQ(codes[0], 0xAF);
  EXPECT_EQ(codes[1], 0xF4);
  EXPECT_EQ(codes[2], 0x4F);
}

TEST(InputSet, WhatCannotBeUsedIsRefusedByName) {
  const std::vector<InputSpec> small{{"x", {8, 8, 3}}};
  EXPECT_EQ(code_of(small, eight_by_eight(), vector_path("f4.npy")), Errc::kMalformed);
  EXPECT_EQ(code_of(small, eight_by_eight(), vector_path("cut.png")), Errc::kMalformed);
  EXPECT_EQ(code_of(small, std::nullopt, vector_path("rgb.png")), Errc::kMalformed);
  EXPECT_EQ(code_of(small, eight_by_eight(), vector_path("none.png")), Errc::kInvalidArgument);
  EXPECT_EQ(code_of(small, eight_by_eight(), "random:"), Errc::kInvalidArgument);
  EXPECT_EQ(code_of(small, eight_by_eight(), "random:-1"), Errc::kInvalidArgument);
  EXPECT_EQ(code_of(small, eight_by_eight(), "random:0"), Errc::kInvalidArgument);
}

TEST(InputSet, AFolderIsItsPictures) {
  // All vectors but the cut and the wrong ones are readable pictures.
  const InputSet inputs({{"x", {8, 8, 3}}}, eight_by_eight(),
                        std::vector<std::string>{vector_path("")});
  std::size_t readable = 0;
  for (std::size_t i = 0; i < inputs.count(); ++i) {
    try {
      EXPECT_EQ(inputs.get(i)[0].reals.size(), 192U);
      ++readable;
    } catch (const Stop& stop) {
      EXPECT_EQ(stop.code(), Errc::kMalformed);
    }
  }
  EXPECT_EQ(readable + 3, inputs.count());
}

TEST(ToCodes, ConcatenatesInTheOrderOfThePlan) {
  model::Plan plan;
  plan.tensors = {{"a", {1, 1, 2}, model::Dtype::kU8, 0.5F, 10},
                  {"b", {1, 1, 3}, model::Dtype::kU8, 1.0F, 0}};
  plan.inputs = {1, 0};
  std::vector<InputValue> values(2);
  values[0].codes = {7, 8, 9};
  values[1].reals = {1.0F, -2.0F};
  ASSERT_EQ(input_elements(plan), 5U);
  std::vector<std::uint8_t> out(5);
  to_codes(plan, values, out);
  EXPECT_EQ(out, (std::vector<std::uint8_t>{7, 8, 9, 12, 6}));
}

}  // namespace
}  // namespace slalom::cli
