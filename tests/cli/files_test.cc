// SPDX-License-Identifier: Apache-2.0
#include "cli/files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cli/failure.h"
#include "support/folder.h"

namespace slalom::cli {
namespace {

namespace fs = std::filesystem;

class Folder : public ::testing::Test {
 protected:
  [[nodiscard]] std::string at(const char* name) const { return folder_.file(name); }
  [[nodiscard]] std::size_t num_files() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

  slalom::testing::Folder folder_;
  const fs::path& path_ = folder_.path();
};

// Writes 100,000 bytes where 4 KiB is all that this process may write to a file (the limit stays,
// so the process must be one of its own); returns the exit status of the failure.
int write_with_limit(const std::string& path) {
  std::signal(SIGXFSZ, SIG_IGN);  // NOLINT(cert-err33-c)
  const rlimit limit{4096, 4096};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  try {
    write_file(path, std::vector<std::byte>(100'000, std::byte{1}));
  } catch (const Stop& stop) {
    return host::exit_code(stop.code());
  }
  return 0;
}

TEST_F(Folder, WriteReplacesTheWholeFile) {
  write_file(at("a"), std::vector<std::byte>(1000, std::byte{1}));
  write_file(at("a"), std::vector<std::byte>(10, std::byte{2}));
  EXPECT_EQ(read_file(at("a"), 1000), std::vector<std::byte>(10, std::byte{2}));
  EXPECT_EQ(num_files(), 1U);
}

TEST_F(Folder, AFullDiskLeavesTheOldFileAndNoPartialOne) {
  const std::vector<std::byte> old(100, std::byte{7});
  write_file(at("a"), old);
  // A process of its own, since the limit stays: 4 KiB is all that it may write to a file.
  EXPECT_EXIT(std::exit(write_with_limit(at("a"))),  // NOLINT(concurrency-mt-unsafe)
              ::testing::ExitedWithCode(host::exit_code(Errc::kUnavailable)), "");
  EXPECT_EQ(read_file(at("a"), 1000), old);
  EXPECT_EQ(num_files(), 1U);
}

TEST_F(Folder, ASymbolicLinkStaysOneAndADeviceIsWrittenTo) {
  write_file(at("a"), std::vector<std::byte>(3, std::byte{1}));
  fs::create_symlink("a", at("link"));
  write_file(at("link"), std::vector<std::byte>(5, std::byte{2}));
  EXPECT_TRUE(fs::is_symlink(at("link")));
  EXPECT_EQ(read_file(at("a"), 10), std::vector<std::byte>(5, std::byte{2}));
  fs::create_symlink("/dev/null", at("null"));
  check_output(at("null"), {});
  write_file(at("null"), std::vector<std::byte>(5));
  EXPECT_TRUE(fs::is_character_file(at("null")));
  EXPECT_EQ(num_files(), 3U);
}

TEST_F(Folder, OutputsAreCheckedBeforeTheyAreThere) {
  write_file(at("a"), {});
  const std::vector<std::string> sources{at("a"), at("none")};
  check_output(at("b"), sources);
  check_output(at("a"), {});
  EXPECT_EQ(num_files(), 1U);
  fs::create_symlink("a", at("link"));
  for (const std::string& path :
       {at("a"), at("link"), path_.string() + "/./a", at("none"), path_.string(), at("no/b")}) {
    try {
      check_output(path, sources);
      ADD_FAILURE() << path;
    } catch (const Stop& stop) {
      EXPECT_EQ(stop.code(), Errc::kInvalidArgument) << stop.what();
    }
  }
}

TEST_F(Folder, MissingFilesAndFoldersAreUsageErrors) {
  for (const auto& act : std::vector<std::function<void()>>{
           [&] { read_file(at("none"), 10); }, [&] { read_file(path_.string(), 10); },
           [&] { write_file(at("no/such/folder"), {}); },
           [&] { files_in(at("none"), std::vector<std::string>{".png"}); }}) {
    try {
      act();
      ADD_FAILURE() << "no error";
    } catch (const Stop& stop) {
      EXPECT_EQ(stop.code(), Errc::kInvalidArgument) << stop.what();
    }
  }
}

TEST_F(Folder, TooLongAFileIsBadInput) {
  write_file(at("a"), std::vector<std::byte>(11));
  try {
    read_file(at("a"), 10);
    ADD_FAILURE() << "no error";
  } catch (const Stop& stop) {
    EXPECT_EQ(stop.code(), Errc::kMalformed);
  }
}

TEST_F(Folder, ListsBySuffixInOrder) {
  for (const char* name : {"b.PNG", "a.jpg", "c.txt"}) write_file(at(name), {});
  EXPECT_EQ(files_in(path_.string(), std::vector<std::string>{".png", ".jpg"}),
            (std::vector<std::string>{at("a.jpg"), at("b.PNG")}));
}

}  // namespace
}  // namespace slalom::cli
