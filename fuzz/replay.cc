// SPDX-License-Identifier: Apache-2.0
// Feeds every file of the folders named on the command line to a fuzz target once: the corpus as a
// regression test, for compilers without libFuzzer. Fails if there is no file to feed.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) try {
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  static_cast<void>(std::printf("%zu files replayed\n", files.size()));
  return files.empty() ? 1 : 0;
} catch (const std::exception& e) {
  static_cast<void>(std::fprintf(stderr, "%s\n", e.what()));
  return 1;
}
