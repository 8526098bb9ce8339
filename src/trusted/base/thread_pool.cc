// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <immintrin.h>

#include "base/assert.h"
#include "base/round_up.h"

namespace slalom::base {
namespace {

constexpr unsigned kDefaultMxcsr = 0x1f80;
constexpr int kSpins = 1500;  // pauses of some 40 to 140 cycles

// wait_while returns when word is not `seen`: it spins first, then sleeps.
void wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t seen) noexcept {
  for (int i = 0; i < kSpins; ++i) {
    if (word.load(std::memory_order_acquire) != seen) return;
    _mm_pause();
  }
  word.wait(seen, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(std::size_t threads, bool bind) {
  SLALOM_ASSERT(threads >= 1);
  if (bind) static_cast<void>(sched_getaffinity(0, sizeof(processors_), &processors_));
  threads_ = threads;
  for (std::size_t i = 1; i < threads; ++i) {
    auto worker = std::make_unique<Worker>(Worker{.pool = this, .number = i});
    if (pthread_create(&worker->thread, nullptr, &ThreadPool::thread_main, worker.get()) != 0)
      break;
    workers_.push_back(std::move(worker));
  }
  scratch_.resize(size());
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  wake_.fetch_add(1, std::memory_order_release);
  wake_.notify_all();
  for (auto& worker : workers_) pthread_join(worker->thread, nullptr);
}

ThreadPool::Bound::Bound(const ThreadPool& pool) noexcept
    : bound_(sched_getaffinity(0, sizeof(before_), &before_) == 0 && pool.bind_caller(0)) {}

ThreadPool::Bound::~Bound() {
  if (bound_) static_cast<void>(sched_setaffinity(0, sizeof(before_), &before_));
}

// bind_caller binds the calling thread as one worker; false if it stays as it is.
bool ThreadPool::bind_caller(std::size_t worker) const noexcept {
  const auto usable = static_cast<std::size_t>(CPU_COUNT(&processors_));
  if (usable < threads_) return false;
  std::size_t skip = worker * usable / threads_;
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &processors_) || skip-- != 0) continue;
    cpu_set_t one{};
    CPU_SET(cpu, &one);
    return sched_setaffinity(0, sizeof(one), &one) == 0;
  }
  return false;
}

void* ThreadPool::thread_main(void* argument) noexcept {
  auto* worker = static_cast<Worker*>(argument);
  ThreadPool* pool = worker->pool;
  _mm_setcsr(kDefaultMxcsr);
  static_cast<void>(pool->bind_caller(worker->number));
  std::uint32_t seen = 0;
  while (true) {
    wait_while(pool->wake_, seen);
    seen = pool->wake_.load(std::memory_order_acquire);
    if (pool->stop_.load(std::memory_order_relaxed)) return nullptr;
    pool->work(worker->number);
  }
}

void ThreadPool::work(std::size_t worker) noexcept {
  std::uint32_t left = unclaimed_.load(std::memory_order_acquire);
  while (left != 0) {
    if (!unclaimed_.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) {
      continue;
    }
    const std::uint32_t count = count_;
    task_(context_, count - left, worker);
    if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) finished_.notify_one();
    left = unclaimed_.load(std::memory_order_acquire);
  }
}

void ThreadPool::run(std::size_t count, Task task, void* context) noexcept {
  SLALOM_ASSERT(count <= UINT32_MAX);
  if (workers_.empty() || count <= 1) {
    for (std::size_t i = 0; i < count; ++i) task(context, i, 0);
    return;
  }
  task_ = task;
  context_ = context;
  count_ = static_cast<std::uint32_t>(count);
  finished_.store(0, std::memory_order_relaxed);
  unclaimed_.store(count_, std::memory_order_release);
  wake_.fetch_add(1, std::memory_order_release);
  wake_.notify_all();
  work(0);
  for (std::uint32_t done = 0; done != count; done = finished_.load(std::memory_order_acquire)) {
    wait_while(finished_, done);
  }
}

void ThreadPool::reserve_scratch(std::size_t bytes) {
  if (bytes <= scratch_bytes_) return;
  scratch_bytes_ = round_up(bytes, sizeof(Line));
  for (auto& memory : scratch_) memory.reset(new Line[scratch_bytes_ / sizeof(Line)]);
}

}  // namespace slalom::base
