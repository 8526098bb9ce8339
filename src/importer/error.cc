// SPDX-License-Identifier: Apache-2.0
#include "importer/error.h"

namespace slalom::importer {

namespace {

constexpr std::size_t kMaxText = 2000;

// printable replaces control characters and cuts what is absurdly long: names come from an
// untrusted file, and the message goes to a terminal.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  if (text.size() > kMaxText) {
    text.resize(kMaxText);
    text += "...";
  }
  return text;
}

}  // namespace

Error out_of_memory() {
  return Error{
      .what = "there is not enough memory", .node = {}, .op = {}, .opset = 0, .no_memory = true};
}

std::string Error::message() const {
  std::string where;
  if (!op.empty()) where = op;
  if (opset != 0) where += (where.empty() ? "opset " : ", opset ") + std::to_string(opset);
  std::string text;
  if (!node.empty()) text = "node '" + node + "'";
  if (!where.empty()) text += text.empty() ? where : " (" + where + ")";
  return printable(text.empty() ? what : text + ": " + what);
}

}  // namespace slalom::importer
