// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

namespace slalom::testing {

// ChangeBehind lets `change` run behind every single instruction that touches some pages, for as
// long as it lives: the worst that somebody who shares the memory can do between two loads, and
// each time. The pages are closed; an access faults, is let through alone (trap flag of the
// processor), and then the pages are changed and closed again. x86-64 Linux; not with sanitizers.
// One thread, one at a time; `change` writes through another mapping, and does nothing that a
// signal handler may not.
class ChangeBehind {
 public:
  // REQUIRES: whole pages.
  ChangeBehind(std::span<std::byte> pages, std::function<void()> change)
      : pages_(pages), change_(std::move(change)) {
    current = this;
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = fault;
    EXPECT_EQ(sigaction(SIGSEGV, &action, &fault_before_), 0);
    action.sa_sigaction = step;
    EXPECT_EQ(sigaction(SIGTRAP, &action, &step_before_), 0);
    protect(PROT_NONE);
  }
  ~ChangeBehind() {
    protect(PROT_READ | PROT_WRITE);
    sigaction(SIGSEGV, &fault_before_, nullptr);
    sigaction(SIGTRAP, &step_before_, nullptr);
  }
  ChangeBehind(const ChangeBehind&) = delete;
  ChangeBehind& operator=(const ChangeBehind&) = delete;

 private:
  static constexpr greg_t kTrapFlag = 0x100;

  void protect(int access) const { EXPECT_EQ(mprotect(pages_.data(), pages_.size(), access), 0); }
  static greg_t& flags(void* context) {
    return static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL];
  }
  static void fault(int /*signal*/, siginfo_t* info, void* context) {
    const auto* at = static_cast<const std::byte*>(info->si_addr);
    const auto& pages = current->pages_;
    if (at < pages.data() || at >= pages.data() + pages.size()) {  // a fault of the test's own
      sigaction(SIGSEGV, &current->fault_before_, nullptr);
      return;
    }
    current->protect(PROT_READ | PROT_WRITE);
    flags(context) |= kTrapFlag;
  }
  static void step(int /*signal*/, siginfo_t* /*info*/, void* context) {
    flags(context) &= ~kTrapFlag;
    current->change_();
    current->protect(PROT_NONE);
  }

  static inline ChangeBehind* current = nullptr;
  std::span<std::byte> pages_;
  std::function<void()> change_;
  struct sigaction fault_before_ {};
  struct sigaction step_before_ {};
};

}  // namespace slalom::testing
