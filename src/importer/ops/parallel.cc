// SPDX-License-Identifier: Apache-2.0
#include "importer/ops/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace slalom::importer {

void parallel_for(unsigned threads, std::size_t count,
                  const std::function<void(std::size_t)>& work) {
  const std::size_t helpers = std::min<std::size_t>(threads, count);
  if (helpers <= 1) {
    for (std::size_t i = 0; i < count; ++i) work(i);
    return;
  }
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  const auto loop = [&] {
    try {
      for (std::size_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      next = count;
      const std::lock_guard<std::mutex> lock(mutex);
      error = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> pool;
    pool.reserve(helpers - 1);
    try {
      for (std::size_t t = 1; t < helpers; ++t) pool.emplace_back(loop);
    } catch (const std::system_error&) {
      // The machine gives no more threads: those that started, and this one, do the work.
    }
    loop();
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace slalom::importer
