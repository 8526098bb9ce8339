// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>

namespace slalom::importer {

// parallel_for calls work(i) once for every i in [0, count), from up to `threads` threads and in
// no order; it returns when all calls have. An exception of a call is thrown again here, after
// the others were told to stop taking new numbers.
void parallel_for(unsigned threads, std::size_t count,
                  const std::function<void(std::size_t)>& work);

}  // namespace slalom::importer
