// SPDX-License-Identifier: Apache-2.0
#include "cli/suggest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <vector>

namespace slalom::cli {
namespace {

std::string lower(std::string_view word) {
  std::string out(word);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// F. Damerau, "A technique for computer detection and correction of spelling errors", CACM 7(3),
// 1964: insertions, deletions, substitutions and swaps of neighbours cost 1 each.
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min(
          {d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string suggestion(std::string_view word, std::span<const std::string> known) {
  constexpr std::size_t kLongest = 64;  // no name is; the time grows with the product
  constexpr std::size_t kShortestBeginning = 3;
  if (word.size() > kLongest) return {};
  const std::string meant = lower(word);
  const std::string* best = nullptr;
  std::size_t least = 0;
  for (const std::string& name : known) {
    const std::string candidate = lower(name);
    const std::size_t shorter = std::min(meant.size(), candidate.size());
    const bool begins = shorter >= kShortestBeginning &&
                        (meant.starts_with(candidate) || candidate.starts_with(meant));
    const std::size_t apart = distance(meant, candidate);
    if (!begins && 3 * apart > std::max(meant.size(), candidate.size())) continue;
    if (best == nullptr || apart < least) {
      best = &name;
      least = apart;
    }
  }
  return best == nullptr ? std::string() : fmt::format(" (did you mean {}?)", *best);
}

}  // namespace slalom::cli
