// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/unix_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace slalom::host {
namespace {

class UnixSocketTest : public ::testing::Test {
 protected:
  UnixSocketTest()
      : path_(std::filesystem::temp_directory_path() /
              ("slalom-socket-" + std::to_string(getpid()))) {
    std::filesystem::remove(path_);
  }
  ~UnixSocketTest() override { std::filesystem::remove(path_); }
  std::filesystem::path path_;
};

TEST_F(UnixSocketTest, ReplacesOnlyWhatNobodyUses) {
  {
    const auto first = listen_at(path_);
    ASSERT_TRUE(first.ok());
    EXPECT_TRUE(connect_to(path_).ok());
    EXPECT_EQ(listen_at(path_).failure().code, Errc::kUnavailable) << "somebody listens";
    EXPECT_TRUE(connect_to(path_).ok()) << "and still does";
  }
  EXPECT_TRUE(std::filesystem::exists(path_));
  EXPECT_EQ(connect_to(path_).failure().code, Errc::kUnavailable);
  EXPECT_TRUE(listen_at(path_).ok()) << "a socket that nobody listens on is replaced";
}

TEST_F(UnixSocketTest, NeverReplacesAFile) {
  std::ofstream(path_) << "precious";
  EXPECT_FALSE(listen_at(path_).ok());
  std::string kept;
  std::ifstream(path_) >> kept;
  EXPECT_EQ(kept, "precious");
}

TEST_F(UnixSocketTest, RefusesImpossiblePaths) {
  EXPECT_EQ(listen_at("").failure().code, Errc::kInvalidArgument);
  EXPECT_EQ(listen_at(std::string(108, 'x')).failure().code, Errc::kInvalidArgument);
  EXPECT_EQ(listen_at("/nonexistent/folder/socket").failure().code, Errc::kInvalidArgument);
  EXPECT_EQ(connect_to(std::string(108, 'x')).failure().code, Errc::kInvalidArgument);
}

TEST_F(UnixSocketTest, KnowsWhenItsPeerIsGone) {
  const auto listener = listen_at(path_);
  const auto socket = connect_to(path_);
  ASSERT_TRUE(listener.ok() && socket.ok());
  outside::Descriptor peer(accept(listener->get(), nullptr, nullptr));
  EXPECT_FALSE(hung_up(socket->get()));
  peer.reset();
  EXPECT_TRUE(hung_up(socket->get()));
}

}  // namespace
}  // namespace slalom::host
