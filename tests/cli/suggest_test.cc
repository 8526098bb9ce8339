// SPDX-License-Identifier: Apache-2.0
#include "cli/suggest.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slalom::cli {
namespace {

std::string suggested(const std::string& word) {
  const std::vector<std::string> names{"run",    "eval",      "model",
                                       "device", "mobilenet", "mobilenet_sep"};
  return suggestion(word, names);
}

TEST(Suggestion, FindsTheNearestName) {
  EXPECT_EQ(suggested("modle"), " (did you mean model?)");    // swapped
  EXPECT_EQ(suggested("modl"), " (did you mean model?)");     // missing
  EXPECT_EQ(suggested("moddel"), " (did you mean model?)");   // added
  EXPECT_EQ(suggested("divice"), " (did you mean device?)");  // wrong
  EXPECT_EQ(suggested("evaluate"), " (did you mean eval?)");  // begins with it
  EXPECT_EQ(suggested("mob"), " (did you mean mobilenet?)");  // begins it, nearest
  EXPECT_EQ(suggested("RUN"), " (did you mean run?)");        // case
  EXPECT_EQ(suggested("mobilenet-sep"), " (did you mean mobilenet_sep?)");
}

TEST(Suggestion, SaysNothingWithoutANearName) {
  for (const char* word : {"", "x", "frobnicate", "ru_n_it_all", "convert"}) {
    EXPECT_EQ(suggested(word), "") << word;
  }
  EXPECT_EQ(suggestion("run", {}), "");
  EXPECT_EQ(suggested(std::string(100'000, 'm')), "");
}

}  // namespace
}  // namespace slalom::cli
