// SPDX-License-Identifier: Apache-2.0
#include "importer/error.h"

namespace slalom::importer {

std::string Error::message() const {
  std::string where;
  if (!op.empty()) where = op;
  if (opset != 0) where += (where.empty() ? "opset " : ", opset ") + std::to_string(opset);
  std::string text;
  if (!node.empty()) text = "node '" + node + "'";
  if (!where.empty()) text += text.empty() ? where : " (" + where + ")";
  return text.empty() ? what : text + ": " + what;
}

}  // namespace slalom::importer
