// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <set>
#include <thread>

namespace slalom::bench {

// thread_counts are the numbers of threads that whole networks are measured with: 1, 2, 4 and all
// processors, as far as there are that many.
inline std::set<std::size_t> thread_counts() {
  const std::size_t all = std::thread::hardware_concurrency() > 0
                              ? std::size_t{std::thread::hardware_concurrency()}
                              : 1;
  std::set<std::size_t> counts{all};
  for (const std::size_t n : {1U, 2U, 4U}) {
    if (n <= all) counts.insert(n);
  }
  return counts;
}

}  // namespace slalom::bench
