// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace slalom::cli {
namespace {

class Scratch {
 public:
  Scratch() : file_(std::tmpfile()) {}
  ~Scratch() { std::fclose(file_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] std::FILE* get() const { return file_; }

 private:
  std::FILE* file_;
};

TEST(Terminal, AFileGetsNoColours) {
  const Scratch file;
  EXPECT_FALSE(is_terminal(file.get()));
  EXPECT_EQ(styled(file.get(), Style::kBad, "no"), "no");
  EXPECT_EQ(columns(file.get()), 100U);
}

TEST(Terminal, TableAlignsNumbersRightAndTextLeft) {
  const Scratch file;
  Table table({"mode", "images/s"});
  table.add({"verified", "8.1"});
  table.add({"p", "123"});
  EXPECT_EQ(table.text(file.get(), 0),
            "mode      images/s\nverified       8.1\np              123\n");
}

TEST(Terminal, WidthCountsCharacters) { EXPECT_EQ(width("caf\xC3\xA9"), 4U); }

TEST(Terminal, ProgressLine) {
  EXPECT_EQ(Progress::line("pads", 5, 10, "images", 2, 100),
            "pads [===============               ] 5/10 images, 2.50 a second, 2.0 s left");
  EXPECT_EQ(Progress::line("pads", 0, 10, "images", 0, 24), "pads  0/10 images");
  EXPECT_EQ(Progress::line("pads", 7, 0, "images", 7, 100), "pads  7 images, 1.00 a second");
  EXPECT_EQ(Progress::line("pads", 5, 10, "images", 2, 45),
            "pads  5/10 images, 2.50 a second, 2.0 s left");
  EXPECT_EQ(Progress::line("pads", 5, 10, "images", 2, 40),
            "pads [==========           ] 5/10 images");
  for (std::size_t cells = 0; cells < 60; ++cells) {
    for (const std::uint64_t total : {0, 10'000}) {
      EXPECT_LE(width(Progress::line("Evaluating", 1'234, total, "images", 3, cells)), cells);
    }
  }
}

TEST(Terminal, HumanNumbers) {
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(40'600'000), "40.6 MB");
  EXPECT_EQ(human_bytes(999'600), "1.0 MB");
  EXPECT_EQ(human_count(1234567), "1,234,567");
  EXPECT_EQ(human_rate(1234.4), "1,234");
  EXPECT_EQ(human_rate(123.4), "123");
  EXPECT_EQ(human_rate(12.34), "12.3");
  EXPECT_EQ(human_rate(0.01234), "0.0123");
  EXPECT_EQ(human_time(65), "1 m 05 s");
  EXPECT_EQ(human_time(3725), "1 h 02 m");
}

}  // namespace
}  // namespace slalom::cli
