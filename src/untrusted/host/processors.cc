// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/processors.h"

#include <algorithm>

namespace slalom::host {
namespace {

cpu_set_t usable() {
  cpu_set_t set{};
  if (sched_getaffinity(0, sizeof(set), &set) != 0) CPU_SET(0, &set);
  return set;
}

// without_bound leaves out the processors that a pool of so many threads binds to
// (base/thread_pool.h).
cpu_set_t without_bound(cpu_set_t set, std::size_t threads) {
  const auto n = static_cast<std::size_t>(CPU_COUNT(&set));
  std::size_t number = 0;
  std::size_t worker = 0;
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    if (worker < threads && number == worker * n / threads) {
      CPU_CLR(cpu, &set);
      ++worker;
    }
    ++number;
  }
  return set;
}

}  // namespace

Shares share_processors(std::size_t trusted_threads, std::size_t device_threads,
                        const std::vector<std::string>& devices) {
  const cpu_set_t all = usable();
  const auto processors = static_cast<std::size_t>(CPU_COUNT(&all));
  const auto cpu_workers =
      static_cast<std::size_t>(std::count(devices.begin(), devices.end(), "cpu"));
  std::size_t needed = cpu_workers * (device_threads != 0 ? device_threads : processors);
  for (const std::string& device : devices) {
    if (device.starts_with("cuda") || device.starts_with("tcp:")) ++needed;
  }
  Shares out;
  out.trusted_threads = trusted_threads;
  if (trusted_threads == 0) {
    const bool fit = cpu_workers == 0 && needed < processors;
    out.trusted_threads = fit ? processors - needed : processors;
  }
  const bool beside = out.trusted_threads + needed <= processors;
  out.bind_trusted = beside || (cpu_workers == 0 && out.trusted_threads <= processors);
  if (beside && needed > 0) out.workers = without_bound(all, out.trusted_threads);
  return out;
}

OnProcessors::OnProcessors(const std::optional<cpu_set_t>& set) {
  if (!set) return;
  before_ = usable();
  static_cast<void>(sched_setaffinity(0, sizeof(*set), &*set));
}

OnProcessors::~OnProcessors() {
  if (before_) static_cast<void>(sched_setaffinity(0, sizeof(*before_), &*before_));
}

}  // namespace slalom::host
