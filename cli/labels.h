// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cli/inputs.h"

namespace slalom::cli {

// Accepted lists the classes that count as right for an image; empty: the image has no label.
using Accepted = std::vector<std::size_t>;

// read_labels gives the accepted classes of each image. The file is one of
//   text, lines "NAME CLASS..." (NAME is an input's file name without its folder; classes are
//     indices, several if more than one is right, none if the image is not to count),
//   text, one index a line, in the order of the images,
//   IDX (.gz too) or .npy of unsigned bytes, in the order of the images.
// Lines that begin with # do not count. Throws Stop(kMalformed) if a line is not understood, a
// class is not below `classes`, or the number of labels is not that of the images.
std::vector<Accepted> read_labels(const std::string& file, const InputSet& images,
                                  std::size_t classes);

}  // namespace slalom::cli
