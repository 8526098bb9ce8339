// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace slalom::cli {

// read_file returns the bytes of a regular file. Throws Stop: kInvalidArgument if it cannot be
// opened, kMalformed if it is longer than max_bytes.
std::vector<std::byte> read_file(const std::string& path, std::uint64_t max_bytes);

// write_file replaces a file by the given bytes, all or nothing: they go to a nameless file in the
// same folder first and get the name only once all of them are on the disk. Whatever happens on the
// way, the old file stays as it was and no partial one is left. A symbolic link stays one; devices
// and pipes (/dev/null) are written to. Throws Stop: kInvalidArgument (the folder is not there or
// not writable) or kUnavailable (the disk is full).
void write_file(const std::string& path, std::span<const std::byte> bytes);

// check_output throws Stop(kInvalidArgument) if write_file could not write `path` (a folder that is
// not there, no right to write), or if `path` is one of the files `sources`, which it would
// replace. Commands that work for long call it first.
void check_output(const std::string& path, std::span<const std::string> sources);

// files_in lists the regular files directly in a folder whose names end in one of `suffixes` (lower
// case, with the dot; the comparison ignores case), sorted by name. Throws Stop(kInvalidArgument).
std::vector<std::string> files_in(const std::string& folder, std::span<const std::string> suffixes);

// temporary_folder makes an empty folder for this process; whoever asks removes it. Throws
// Stop(kUnavailable), with what it was wanted for ("the pads").
std::string temporary_folder(const std::string& purpose);

}  // namespace slalom::cli
