// SPDX-License-Identifier: Apache-2.0
// A process that makes, seals and uses pads is killed at random points and started again on the
// same store file, which the adversary replaces by older copies in between. An oracle outside
// records every pad that was used: none may ever come twice, and no replaced factors may ever open.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "support/folder.h"
#include "support/plans.h"
#include "vault/stocked_pads.h"

namespace slalom::vault {
namespace {

constexpr int kKills = 240;
using Fingerprint = std::array<std::uint32_t, 8>;  // of a pad: its first words, 192 random bits

model::Plan tiny_network() {
  testing::PlanBuilder b(3);
  const auto x = b.input({4, 4, 8});
  const auto y = b.conv(x, {.out_c = 8});
  const auto z = b.dense(b.reshape(y, {1, 1, 128}), 4, true);
  return b.finish({z});
}

// use makes stock, uses some of it, leaves some, for ever; each used pad's fingerprint goes to
// `report` before anything else happens with it, as a device would see it.
[[noreturn]] void use(int store, int report) {
  const auto cpu = base::detect_cpu();
  const model::Plan plan = tiny_network();
  const auto digest = *model::plan_digest(model::encode_plan(plan));
  auto random = field::make_system_random(cpu);
  if (!random.ok()) _exit(2);
  auto epoch = Epoch::draw(**random);
  if (!epoch.ok()) _exit(3);
  InferenceNumbers numbers;
  StockOptions options;
  options.cpu = cpu;
  options.batch = 2;
  const std::array<std::uint32_t, 2> nodes = {0, 2};
  auto pads = StockedPads::create(plan, digest, nodes, *epoch, numbers,
                                  std::make_unique<FileStore>(outside::Descriptor(store)), options);
  if (!pads.ok()) _exit(4);
  const auto& kernels = field::choose_kernels(cpu);
  for (;;) {
    if (!(*pads)->prepare(3, nullptr, nullptr).ok()) _exit(5);
    for (int i = 0; i < 4; ++i) {
      const auto ticket = (*pads)->take();
      if (!ticket.ok()) _exit(6);
      base::Wiped<field::StreamKey> key;
      if (!(*pads)->pad_key(*ticket, plan.nodes[0].inputs[0], key.reveal()).ok()) _exit(7);
      Fingerprint r{};
      field::PadStream(key.reveal(), field::Field::kP24, kernels).fill(0, r);
      if (write(report, r.data(), sizeof(r)) != sizeof(r)) _exit(8);
      std::array<std::uint32_t, 128> u{};
      const auto opened = (*pads)->open_factors(*ticket, 0, field::Field::kP24, 0, u);
      if (!opened.ok()) _exit(9);
      (*pads)->destroy(*ticket);
    }
  }
}

std::string read_file(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY);
  std::string bytes(static_cast<std::size_t>(lseek(fd, 0, SEEK_END)), '\0');
  const ssize_t n = pread(fd, bytes.data(), bytes.size(), 0);
  close(fd);
  bytes.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return bytes;
}
void write_file(const std::string& path, const std::string& bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_TRUNC);
  ASSERT_EQ(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  close(fd);
}

TEST(PadKill, NoPadIsUsedTwiceOverManyKills) {
  const testing::Folder folder;
  const std::string path = folder.file("pads");
  close(open(path.c_str(), O_RDWR | O_CREAT, 0600));
  std::mt19937 random(7);
  std::set<Fingerprint> used;
  std::string older;
  int reporting = 0;
  for (int kill_count = 0; kill_count < kKills; ++kill_count) {
    std::array<int, 2> report{};
    ASSERT_EQ(pipe(report.data()), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(report[0]);
      use(open(path.c_str(), O_RDWR), report[1]);
    }
    close(report[1]);
    // Half of the kills land while the first stock is made; the rest wait for the first pad in use,
    // however slow the machine is.
    if (kill_count % 2 != 0) {
      pollfd first{report[0], POLLIN, 0};
      ASSERT_EQ(poll(&first, 1, 60'000), 1);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 4'000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    // A child that ended by itself saw an error, which none of this may cause.
    ASSERT_TRUE(WIFSIGNALED(status)) << "exit " << WEXITSTATUS(status);
    Fingerprint r{};
    bool reported = false;
    while (read(report[0], r.data(), sizeof(r)) == sizeof(r)) {
      EXPECT_TRUE(used.insert(r).second) << "a pad came twice";
      reported = true;
    }
    reporting += reported ? 1 : 0;
    close(report[0]);
    if (kill_count % 5 == 3) older = read_file(path);
    if (kill_count % 5 == 1 && !older.empty()) write_file(path, older);
  }
  EXPECT_GE(reporting, kKills / 2);
  RecordProperty("kills", kKills);
  RecordProperty("pads", static_cast<int>(used.size()));
  std::printf("%d kills, %d of them with pads in use, %zu pads, none twice\n", kKills, reporting,
              used.size());
}

}  // namespace
}  // namespace slalom::vault
