// SPDX-License-Identifier: Apache-2.0
#include "device/remote/address.h"

#include <gtest/gtest.h>

namespace slalom::device::remote {
namespace {

TEST(Address, IsReadFromText) {
  const auto expect = [](const char* text, const char* host, const char* port) {
    const auto read = parse_address(text);
    ASSERT_TRUE(read.has_value()) << text;
    EXPECT_EQ(read->host, host);
    EXPECT_EQ(read->port, port);
  };
  expect("10.0.0.2:7000", "10.0.0.2", "7000");
  expect("gpu-box.example:1", "gpu-box.example", "1");
  expect("[::1]:65535", "::1", "65535");
  expect("[fe80::1%eth0]:0", "fe80::1%eth0", "0");
  for (const char* text : {"", ":", "host", "host:", ":7000", "host:x", "host:-1", "host:65536",
                           "host:070000", "::1:70", "[::1]", "[::1]70", "[host]:70", "[]:70",
                           "a b:70", "/tmp/a:70", "a]:70", "a:7 0", "a:+7"}) {
    EXPECT_FALSE(parse_address(text).has_value()) << text;
  }
}

TEST(Address, ASocketSaysWhereItIsBound) {
  for (const char* text : {"127.0.0.1:0", "[::1]:0"}) {
    const auto socket = listen_at(*parse_address(text));
    if (!socket.ok() && text[0] == '[') GTEST_SKIP() << "no IPv6 here";
    ASSERT_TRUE(socket.ok());
    const auto bound = parse_address(bound_address(socket->get()));
    ASSERT_TRUE(bound.has_value()) << bound_address(socket->get());
    EXPECT_EQ(bound->host, parse_address(text)->host);
    EXPECT_NE(bound->port, "0");
    EXPECT_TRUE(connect_to(*bound, std::chrono::seconds(2)).ok());
    const auto second = listen_at(*bound);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, Errc::kUnavailable);
  }
}

TEST(Address, ErrorsSayWhy) {
  Address nobody;
  {
    const auto socket = listen_at({"127.0.0.1", "0"});
    nobody = *parse_address(bound_address(socket->get()));
  }
  const auto refused = connect_to(nobody, std::chrono::seconds(2));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  EXPECT_STREQ(refused.error().message, "nobody listens there (connection refused)");
  const auto elsewhere = listen_at({"192.0.2.1", "7000"});  // kept for documentation
  ASSERT_FALSE(elsewhere.ok());
  EXPECT_EQ(elsewhere.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(connect_to({"no.such.host.invalid", "70"}, std::chrono::seconds(2)).error().code,
            Errc::kUnavailable);
}

}  // namespace
}  // namespace slalom::device::remote
