// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace slalom::cli {

// suggestion returns " (did you mean X?)" for the known name that is most like `word`, or nothing
// if none is near: at most a third of the letters wrong, missing, added or swapped with the next
// one (the restricted Damerau-Levenshtein distance), or one is the beginning of the other. Upper
// and lower case are the same letter.
std::string suggestion(std::string_view word, std::span<const std::string> known);

}  // namespace slalom::cli
