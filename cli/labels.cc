// SPDX-License-Identifier: Apache-2.0
#include "cli/labels.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include "cli/array.h"
#include "cli/failure.h"
#include "cli/files.h"

namespace slalom::cli {
namespace {

[[noreturn]] void bad_labels(const std::string& file, const std::string& what) {
  throw Stop(Errc::kMalformed, fmt::format("the labels {} cannot be used: {}", file, what));
}

std::optional<std::size_t> index_of(const std::string& word) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

// Labels as they stand in a file: by name, or in order.
struct Labels {
  std::map<std::string, Accepted> by_name;
  std::vector<Accepted> in_order;
};

Labels parse_text(const std::string& file, std::string_view text) {
  Labels out;
  std::istringstream lines{std::string(text)};
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::istringstream words(line);
    std::string first;
    if (!(words >> first) || first.starts_with('#')) continue;
    Accepted classes;
    for (std::string word; words >> word;) {
      const auto index = index_of(word);
      if (!index) {
        bad_labels(file, fmt::format("line {}: '{}' is no class number; write NAME CLASS...",
                                     number, word));
      }
      classes.push_back(*index);
    }
    const auto alone = index_of(first);
    if (classes.empty() && alone) {
      out.in_order.push_back({*alone});
    } else if (!out.by_name.emplace(first, classes).second) {
      bad_labels(file, fmt::format("line {}: {} has a label already", number, first));
    }
  }
  if (!out.by_name.empty() && !out.in_order.empty()) {
    bad_labels(file, "some lines have a name and some have none");
  }
  return out;
}

Labels from_array(const std::string& file, const Result<Array>& array) {
  if (!array.ok()) bad_labels(file, array.error().message);
  if (array->shape.size() != 1 || !array->is_codes()) {
    bad_labels(file, "an array of labels has one dimension of unsigned bytes");
  }
  Labels out;
  for (const std::uint8_t label : std::get<std::vector<std::uint8_t>>(array->values)) {
    out.in_order.push_back({label});
  }
  return out;
}

Labels read(const std::string& file) {
  constexpr std::uint64_t kMaxLabels = 1U << 30U;
  const auto unzipped = gunzip(read_file(file, kMaxLabels), kMaxLabels);
  if (!unzipped.ok()) bad_labels(file, unzipped.error().message);
  const std::string_view text(reinterpret_cast<const char*>(unzipped->data()), unzipped->size());
  if (text.starts_with("\x93NUMPY")) return from_array(file, decode_npy(*unzipped));
  if (text.starts_with(std::string_view("\0\0\x08", 3))) {
    return from_array(file, decode_idx(*unzipped));
  }
  return parse_text(file, text);
}

}  // namespace

std::vector<Accepted> read_labels(const std::string& file, const InputSet& images,
                                  std::size_t classes) {
  Labels labels = read(file);
  std::vector<Accepted> out = std::move(labels.in_order);
  if (out.empty()) {
    for (std::size_t i = 0; i < images.count(); ++i) {
      const std::string name = std::filesystem::path(images.name(i)).filename().string();
      const auto found = labels.by_name.find(name);
      if (found == labels.by_name.end()) bad_labels(file, fmt::format("{} has no line", name));
      out.push_back(found->second);
    }
  }
  if (out.size() != images.count()) {
    bad_labels(file, fmt::format("there are {} labels for {} images", out.size(), images.count()));
  }
  if (std::all_of(out.begin(), out.end(), [](const Accepted& a) { return a.empty(); })) {
    bad_labels(file, "they name a class for no image");
  }
  for (const Accepted& accepted : out) {
    for (const std::size_t c : accepted) {
      if (c >= classes) {
        bad_labels(file, fmt::format("class {} is not one of the network's {}", c, classes));
      }
    }
  }
  return out;
}

}  // namespace slalom::cli
