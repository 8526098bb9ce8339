// SPDX-License-Identifier: Apache-2.0
#include "vault/store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>

#include "support/folder.h"

namespace slalom::vault {
namespace {

std::unique_ptr<BlobStore> temporary_file() {
  const testing::Folder folder;  // an open file outlives its name
  return std::make_unique<FileStore>(
      outside::Descriptor(open(folder.file("pads").c_str(), O_RDWR | O_CREAT, 0600)));
}

class Store : public ::testing::Test {
 protected:
  std::unique_ptr<BlobStore> store_ = temporary_file();
};

TEST_F(Store, KeepsWhatWasWritten) {
  ASSERT_TRUE(store_->reserve(1000).ok());
  const std::vector<std::byte> a(100, std::byte{1});
  const std::vector<std::byte> b(100, std::byte{2});
  ASSERT_TRUE(store_->write(900, a).ok());
  ASSERT_TRUE(store_->write(0, b).ok());
  std::vector<std::byte> out(100);
  ASSERT_TRUE(store_->read(900, out).ok());
  EXPECT_EQ(out, a);
  EXPECT_EQ(store_->size(), 1000U);
  ASSERT_TRUE(store_->clear().ok());
  EXPECT_EQ(store_->size(), 0U);
}

TEST_F(Store, ReadingPastTheEndIsUnavailable) {
  ASSERT_TRUE(store_->reserve(100).ok());
  std::vector<std::byte> out(101);
  const auto status = store_->read(0, out);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kUnavailable);
  EXPECT_FALSE(store_->read(~0ULL - 7, std::span(out).first(8)).ok());
}

// A file that may not grow any further, as on a full disk: a child process with RLIMIT_FSIZE.
TEST(FileStore, FullDiskIsUnavailable) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(9);
    const auto store = temporary_file();
    if (!store->reserve(4096).ok()) _exit(1);
    const auto reserved = store->reserve(1 << 20);
    if (reserved.ok() || reserved.error().code != Errc::kUnavailable) _exit(2);
    const std::vector<std::byte> bytes(8192);
    const auto written = store->write(0, bytes);
    if (written.ok() || written.error().code != Errc::kUnavailable) _exit(3);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace slalom::vault
