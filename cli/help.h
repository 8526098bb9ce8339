// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace slalom::cli {

// Help lays out --help: names, then what may be written and the default, descriptions wrapped in a
// column of their own, at most 100 characters a line.
class Help : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_subcommand(const CLI::App* sub) const override;
  std::string make_usage(const CLI::App* app, std::string name) const override;
};

// wrapped breaks text into lines of at most `cells` characters, all but the first indented.
std::string wrapped(const std::string& text, std::size_t cells, std::size_t indent);

}  // namespace slalom::cli
