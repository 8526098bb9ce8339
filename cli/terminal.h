// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

// What the command line looks like: colours and a moving progress bar on a terminal, plain text
// everywhere else (a pipe, a file, TERM=dumb, NO_COLOR set: https://no-color.org).

namespace slalom::cli {

enum class Style : std::uint8_t { kPlain, kBold, kDim, kGood, kBad, kWarn, kTitle };

// styled wraps text in the escape codes of a style if the stream shows colours.
std::string styled(std::FILE* stream, Style style, std::string_view text);

// is_terminal says whether a stream is a terminal that understands escape codes.
bool is_terminal(std::FILE* stream);

// columns is the width of the terminal behind a stream, 100 if there is none.
std::size_t columns(std::FILE* stream);

// width is the number of character cells that UTF-8 text takes (one a code point).
std::size_t width(std::string_view text);

// Table aligns cells in columns: the first row is the head. Numbers align right, everything else
// left; a column is numeric if all its cells but the head begin with a digit, a sign or are empty
// or "-".
class Table {
 public:
  explicit Table(std::vector<std::string> head) : rows_{std::move(head)} {}
  // add appends a row; it may be shorter than the head.
  void add(std::vector<std::string> row, Style style = Style::kPlain);
  // text lays the table out for a stream, `indent` spaces before each line.
  [[nodiscard]] std::string text(std::FILE* stream, std::size_t indent = 2) const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<Style> styles_{Style::kBold};
};

// Progress shows how far some work is on stderr: one line that is redrawn at most ten times a
// second, with rate and remaining time, and erased at the end. Shows nothing where stderr is not a
// terminal. (Debian has no C++ library for this: docs/decisions.md.) One thread.
class Progress {
 public:
  // total 0: unknown; then only the count and the rate are shown.
  Progress(std::string label, std::uint64_t total, std::string unit = "images");
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void set(std::uint64_t done);
  void add(std::uint64_t n = 1) { set(done_ + n); }

  // line is what is shown: pure, for tests.
  [[nodiscard]] static std::string line(std::string_view label, std::uint64_t done,
                                        std::uint64_t total, std::string_view unit, double seconds,
                                        std::size_t cells);

 private:
  void draw();

  std::string label_;
  std::uint64_t total_;
  std::string unit_;
  bool shown_;
  std::uint64_t done_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point drawn_;
};

// human formats: bytes ("40.6 MB"), counts with separators ("12,345"), rates with three significant
// digits ("0.0123", "45.6", "1,234"), durations ("1 m 05 s").
// counted joins a count and a noun: "1 image", "12,345 images".
std::string counted(std::uint64_t count, std::string_view noun);
std::string human_bytes(std::uint64_t bytes);
std::string human_count(std::uint64_t count);
std::string human_rate(double rate);
std::string human_time(double seconds);

}  // namespace slalom::cli
