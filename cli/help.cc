// SPDX-License-Identifier: Apache-2.0
#include "cli/help.h"

#include <fmt/format.h>

#include <sstream>

namespace slalom::cli {
namespace {

constexpr std::size_t kLine = 100;
constexpr std::size_t kColumn = 28;  // where descriptions begin

// CLI11 appends its validators' own texts to a type name, after a colon.
std::string type_of(const CLI::Option* option) {
  const std::string type = option->get_type_name();
  return type.substr(0, type.find(':'));
}

std::string entry(const std::string& left, const std::string& text) {
  const std::string body = wrapped(text, kLine - kColumn, kColumn);
  if (left.size() + 2 < kColumn) return fmt::format("  {:<{}}{}\n", left, kColumn - 2, body);
  return fmt::format("  {}\n{}{}\n", left, std::string(kColumn, ' '), body);
}

}  // namespace

std::string wrapped(const std::string& text, std::size_t cells, std::size_t indent) {
  std::istringstream words(text);
  std::string out;
  std::size_t used = 0;
  for (std::string word; words >> word;) {
    if (used > 0 && used + 1 + word.size() > cells) {
      out += "\n" + std::string(indent, ' ');
      used = 0;
    }
    if (used > 0) out += ' ';
    out += word;
    used += word.size() + (used > 0 ? 1 : 0);
  }
  return out;
}

std::string Help::make_option(const CLI::Option* option, bool is_positional) const {
  const std::string type = type_of(option);
  std::string left;
  if (is_positional) {
    left = type.empty() ? option->get_name() : type;
  } else {
    left = option->get_name(false, true);
    left = left.substr(0, left.find('{'));  // a flag that clears carries its value
    if (option->get_expected_max() != 0 && !type.empty()) left += " " + type;
    if (option->get_expected_max() > 1) left += "...";
  }
  std::string text = option->get_description();
  if (option->get_required()) text += " (required)";
  if (!option->get_default_str().empty() && option->get_expected_max() != 0) {
    text += fmt::format(" (default: {})", option->get_default_str());
  }
  return entry(left, text);
}

std::string Help::make_subcommand(const CLI::App* sub) const {
  return entry(sub->get_name(), sub->get_description());
}

std::string Help::make_usage(const CLI::App* app, std::string name) const {
  std::string out = "Usage: " + name;
  if (!app->get_subcommands({}).empty()) out += " COMMAND";
  for (const CLI::Option* option :
       app->get_options([](const CLI::Option* o) { return o->get_positional(); })) {
    const std::string type = type_of(option);
    out += option->get_required() ? " " + type : " [" + type + "]";
  }
  for (const CLI::Option* option : app->get_options(
           [](const CLI::Option* o) { return o->get_required() && !o->get_positional(); })) {
    out += " " + option->get_name(false, false) + " " + type_of(option);
    if (option->get_expected_max() > 1) out += "...";
  }
  return out + " [OPTIONS]\n";
}

}  // namespace slalom::cli
