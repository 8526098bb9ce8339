// SPDX-License-Identifier: Apache-2.0
#include "cli/suggest.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slalom::cli {
namespace {

const std::vector<std::string> kNames{"run",    "eval",      "model",
                                      "device", "mobilenet", "mobilenet_sep"};

TEST(Suggestion, FindsTheNearestName) {
  EXPECT_EQ(suggestion("modle", kNames), " (did you mean model?)");    // swapped
  EXPECT_EQ(suggestion("modl", kNames), " (did you mean model?)");     // missing
  EXPECT_EQ(suggestion("moddel", kNames), " (did you mean model?)");   // added
  EXPECT_EQ(suggestion("divice", kNames), " (did you mean device?)");  // wrong
  EXPECT_EQ(suggestion("evaluate", kNames), " (did you mean eval?)");  // begins with it
  EXPECT_EQ(suggestion("mob", kNames), " (did you mean mobilenet?)");  // begins it, nearest
  EXPECT_EQ(suggestion("RUN", kNames), " (did you mean run?)");        // case
  EXPECT_EQ(suggestion("mobilenet-sep", kNames), " (did you mean mobilenet_sep?)");
}

TEST(Suggestion, SaysNothingWithoutANearName) {
  for (const char* word : {"", "x", "frobnicate", "ru_n_it_all", "convert"}) {
    EXPECT_EQ(suggestion(word, kNames), "") << word;
  }
  EXPECT_EQ(suggestion("run", {}), "");
  EXPECT_EQ(suggestion(std::string(100'000, 'm'), kNames), "");
}

}  // namespace
}  // namespace slalom::cli
