// SPDX-License-Identifier: Apache-2.0
// docs/operators.md names every operator that is read, with its operator sets, and no other.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <string>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

// Rows of the tables begin with one or more names in backticks.
std::map<std::string, int> documented() {
  std::map<std::string, int> names;
  std::ifstream file(SLALOM_DOCS "/operators.md");
  const std::regex name("`([A-Za-z]+)`");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("| `")) continue;
    const std::string cell = line.substr(0, line.find('|', 1));
    for (std::sregex_iterator it(cell.begin(), cell.end(), name), end; it != end; ++it) {
      ++names[(*it)[1]];
    }
  }
  return names;
}

TEST(Operators, AreDocumentedOnceEach) {
  auto names = documented();
  for (const OpDef& op : all_ops()) {
    if (op.min_opset == 0) continue;  // not to be met in a file
    EXPECT_EQ(names[std::string(op.name)], 1) << op.name;
    names.erase(std::string(op.name));
  }
  for (const auto& [name, count] : names) ADD_FAILURE() << name << " is documented, but not read";
}

}  // namespace
}  // namespace slalom::importer
