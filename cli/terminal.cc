// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.h"

#include <fmt/color.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace slalom::cli {
namespace {

fmt::text_style look(Style style) {
  switch (style) {
    case Style::kBold:
      return fmt::emphasis::bold;
    case Style::kDim:
      return fmt::emphasis::faint;
    case Style::kGood:
      return fmt::fg(fmt::terminal_color::green);
    case Style::kBad:
      return fmt::fg(fmt::terminal_color::red) | fmt::emphasis::bold;
    case Style::kWarn:
      return fmt::fg(fmt::terminal_color::yellow);
    case Style::kTitle:
      return fmt::fg(fmt::terminal_color::cyan) | fmt::emphasis::bold;
    case Style::kPlain:
      break;
  }
  return {};
}

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets any
  return value == nullptr ? std::string_view() : std::string_view(value);
}

bool looks_numeric(std::string_view cell) {
  if (cell.empty() || cell == "-") return true;
  if (cell.front() == '-' || cell.front() == '+') cell.remove_prefix(1);
  return !cell.empty() && cell.front() >= '0' && cell.front() <= '9';
}

std::string padded(std::string_view text, std::size_t cells, bool right) {
  const std::string space(cells - std::min(cells, width(text)), ' ');
  return right ? space + std::string(text) : std::string(text) + space;
}

}  // namespace

bool is_terminal(std::FILE* stream) {
  return ::isatty(::fileno(stream)) == 1 && environment("TERM") != "dumb";
}

std::string styled(std::FILE* stream, Style style, std::string_view text) {
  if (style == Style::kPlain || !environment("NO_COLOR").empty() || !is_terminal(stream)) {
    return std::string(text);
  }
  return fmt::format(look(style), "{}", text);
}

std::size_t columns(std::FILE* stream) {
  winsize size{};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;  // not a continuation byte
  }));
}

void Table::add(std::vector<std::string> row, Style style) {
  rows_.push_back(std::move(row));
  styles_.push_back(style);
}

std::string Table::text(std::FILE* stream, std::size_t indent) const {
  std::size_t num_columns = 0;
  for (const auto& row : rows_) num_columns = std::max(num_columns, row.size());
  std::vector<std::size_t> cells(num_columns, 0);
  std::vector<bool> right(num_columns, rows_.size() > 1);
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t c = 0; c < rows_[r].size(); ++c) {
      cells[c] = std::max(cells[c], width(rows_[r][c]));
      if (r > 0 && !looks_numeric(rows_[r][c])) right[c] = false;
    }
  }
  std::string out;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (std::size_t c = 0; c < rows_[r].size(); ++c) {
      if (c > 0) line += "  ";
      line += padded(rows_[r][c], cells[c], right[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += std::string(indent, ' ') + styled(stream, styles_[r], line) + "\n";
  }
  return out;
}

Progress::Progress(std::string label, std::uint64_t total, std::string unit)
    : label_(std::move(label)),
      total_(total),
      unit_(std::move(unit)),
      shown_(is_terminal(stderr)),
      start_(std::chrono::steady_clock::now()) {
  if (shown_) draw();
}

Progress::~Progress() {
  if (shown_) static_cast<void>(std::fputs("\r\x1b[K", stderr));
}

void Progress::set(std::uint64_t done) {
  done_ = done;
  if (shown_ && std::chrono::steady_clock::now() - drawn_ >= std::chrono::milliseconds(100)) draw();
}

void Progress::draw() {
  drawn_ = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(drawn_ - start_).count();
  const std::string text = line(label_, done_, total_, unit_, seconds, columns(stderr) - 1);
  static_cast<void>(std::fprintf(stderr, "\r%s\x1b[K", text.c_str()));
  static_cast<void>(std::fflush(stderr));
}

std::string Progress::line(std::string_view label, std::uint64_t done, std::uint64_t total,
                           std::string_view unit, double seconds, std::size_t cells) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  // A line that wraps would be drawn again below itself.
  const auto fitting = [cells](std::string text) {
    if (text.size() > cells) text.resize(cells);
    return text;
  };
  if (total == 0) {
    return fitting(
        fmt::format("{}  {} {}, {} a second", label, human_count(done), unit, human_rate(rate)));
  }
  done = std::min(done, total);
  std::string tail = fmt::format(" {}/{} {}", human_count(done), human_count(total), unit);
  if (done > 0 && seconds > 0) {
    const std::string more = fmt::format(", {} a second, {} left", human_rate(rate),
                                         human_time(static_cast<double>(total - done) / rate));
    if (width(label) + width(tail) + width(more) < cells) tail += more;
  }
  const std::size_t rest = width(label) + width(tail) + 3;
  const std::size_t bar = cells > rest + 8 ? std::min<std::size_t>(cells - rest, 30) : 0;
  if (bar == 0) return fitting(fmt::format("{} {}", label, tail));
  const auto full = static_cast<std::size_t>(static_cast<double>(bar) * static_cast<double>(done) /
                                             static_cast<double>(total));
  return fmt::format("{} [{}{}]{}", label, std::string(full, '='), std::string(bar - full, ' '),
                     tail);
}

std::string counted(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", human_count(count), noun, count == 1 ? "" : "s");
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits{"B", "kB", "MB", "GB", "TB", "PB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes)
                   : fmt::format("{:.{}f} {}", value, value < 99.95 ? 1 : 0, kUnits[unit]);
}

std::string human_count(std::uint64_t count) {
  std::string digits = fmt::format("{}", count);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string human_rate(double rate) {
  if (!(rate > 0)) return "0";
  if (rate >= 999.5) return human_count(static_cast<std::uint64_t>(std::llround(rate)));
  if (rate >= 99.95) return fmt::format("{:.0f}", rate);
  if (rate >= 9.995) return fmt::format("{:.1f}", rate);
  if (rate >= 0.9995) return fmt::format("{:.2f}", rate);
  return fmt::format("{:.3g}", rate);
}

std::string human_time(double seconds) {
  const auto whole = static_cast<std::uint64_t>(std::llround(std::min(seconds, 1e9)));
  if (whole >= 3600) return fmt::format("{} h {:02} m", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return fmt::format("{} m {:02} s", whole / 60, whole % 60);
  return seconds < 10 ? fmt::format("{:.1f} s", seconds) : fmt::format("{} s", whole);
}

}  // namespace slalom::cli
