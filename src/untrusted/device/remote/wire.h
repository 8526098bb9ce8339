// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/archive.h"
#include "channel/messages.h"
#include "model/plan.h"
#include "slalom/result.h"

// What a remote device and its listener say to each other (docs/remote-format.md). Every message
// has a fixed size; decode takes exactly that many bytes, all or nothing, and what it takes encodes
// to the same bytes. Neither end believes the other.

namespace slalom::device::remote {

inline constexpr std::uint64_t kMagic = 0x3152'4d4f'4c41'4c53;  // "SLALOMR1"
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kMostStreams = 16;
inline constexpr std::size_t kWindow = 8;  // jobs without an answer, at most
inline constexpr std::uint64_t kMostPlanBytes = std::uint64_t{1} << 33;
inline constexpr std::uint32_t kMostImages = 1024;  // of a job

// Token names a client for as long as it lives, or a session. Whoever does not know it cannot guess
// it; whoever reads the network knows it, and can cut connections anyway.
using Token = std::array<std::byte, 16>;

enum class Purpose : std::uint8_t { kOpen = 1, kJoin = 2 };
constexpr auto range_of(Purpose) { return std::pair(Purpose::kOpen, Purpose::kJoin); }

// Greeting begins every message that opens a connection, in all versions.
struct Greeting {
  std::uint64_t magic = kMagic;
  std::uint32_t version = kVersion;
};
void fields(auto& a, base::Is<Greeting> auto& m) { a(m.magic, m.version); }

// Hello is a client's first message on each connection: kOpen on the first stream, kJoin on others.
struct Hello {
  Greeting greeting;
  Purpose purpose = Purpose::kOpen;
  Token token{};                 // kOpen: the client's own; kJoin: the session's
  std::uint32_t stream = 0;      // kJoin: 1 .. streams - 1
  std::uint32_t streams = 0;     // kOpen: 1 .. kMostStreams
  std::uint32_t max_batch = 0;   // kOpen: 1 .. kMostImages
  std::uint64_t plan_bytes = 0;  // kOpen: 1 .. kMostPlanBytes
  model::Digest digest{};        // kOpen: of the plan
};
void fields(auto& a, base::Is<Hello> auto& m) {
  a(m.greeting, m.purpose, m.token, m.stream, m.streams, m.max_batch, m.plan_bytes, m.digest);
  a.require(m.greeting.magic == kMagic && m.greeting.version == kVersion);
  const bool open = m.purpose == Purpose::kOpen;
  a.require(open ? m.stream == 0 : m.stream >= 1 && m.stream < kMostStreams);
  a.require(open ? m.streams >= 1 && m.streams <= kMostStreams : m.streams == 0);
  a.require(open ? m.max_batch >= 1 && m.max_batch <= kMostImages : m.max_batch == 0);
  a.require(open ? m.plan_bytes >= 1 && m.plan_bytes <= kMostPlanBytes : m.plan_bytes == 0);
  a.require(open || m.digest == model::Digest{});
}

// Answer to a kOpen, and again after kSendPlan and kLoading.
enum class Reply : std::uint8_t {
  kReady = 1,
  kSendPlan = 2,  // the client sends its plan, and gets kReady or kCannotLoad
  kLoading = 3,   // kReady or kCannotLoad comes
  kBusy = 4,
  kOtherPlan = 5,
  kOtherVersion = 6,
  kCannotLoad = 7,
};
constexpr auto range_of(Reply) { return std::pair(Reply::kReady, Reply::kCannotLoad); }
struct Welcome {
  Greeting greeting;
  Reply reply = Reply::kReady;
  Token session{};  // for kJoin; zero unless kReady
};
void fields(auto& a, base::Is<Welcome> auto& m) {
  a(m.greeting, m.reply, m.session);
  a.require(m.greeting.magic == kMagic);
  a.require(m.greeting.version == kVersion || m.reply == Reply::kOtherVersion);
  a.require(m.reply == Reply::kReady || m.session == Token{});
}

// JobHeader precedes each part of a job's input. All parts of a job have the same header but for
// part_bytes.
struct JobHeader {
  std::uint64_t id = 0;  // 0, 1, 2, ... in a session
  std::uint64_t attempt = 0;
  std::uint32_t layer = 0;
  std::uint32_t batch = 0;
  std::uint8_t kind = 0;   // channel::InputKind
  std::uint8_t field = 0;  // field::Field
  std::uint8_t pad_code = 0;
  std::uint32_t input_bytes = 0;  // of the whole job; 0 for kRetained
  std::uint32_t part_bytes = 0;   // that follow
  friend bool operator==(const JobHeader&, const JobHeader&) = default;
};
void fields(auto& a, base::Is<JobHeader> auto& m) {
  a(m.id, m.attempt, m.layer, m.batch, m.kind, m.field, m.pad_code, m.input_bytes, m.part_bytes);
  a.require(m.kind >= 1 && m.kind <= 3 && (m.field == 3 || m.field == 4));
  a.require(m.batch >= 1 && m.batch <= kMostImages);
  a.require(m.part_bytes <= m.input_bytes && (m.kind != 3 || m.input_bytes == 0));
}

// AnswerHeader precedes each part of a job's answer.
struct AnswerHeader {
  std::uint64_t id = 0;
  std::uint8_t status = 0;       // 0: done; else the Errc of the failure
  std::uint32_t part_bytes = 0;  // that follow; 0 after a failure
};
void fields(auto& a, base::Is<AnswerHeader> auto& m) {
  a(m.id, m.status, m.part_bytes);
  a.require(m.status <= static_cast<std::uint8_t>(Errc::kInternal));
  a.require(m.status == 0 || m.part_bytes == 0);
}

inline constexpr std::size_t kGreetingBytes = 8 + 4;
inline constexpr std::size_t kHelloBytes = kGreetingBytes + 1 + 16 + 12 + 8 + 32;
inline constexpr std::size_t kWelcomeBytes = kGreetingBytes + 1 + 16;
inline constexpr std::size_t kJobBytes = 2 * 8 + 2 * 4 + 3 + 2 * 4;
inline constexpr std::size_t kAnswerBytes = 8 + 1 + 4;

template <class Message>
[[nodiscard]] std::vector<std::byte> encode(const Message& message) {
  base::ArchiveWriter out;
  out(message);
  return out.release();
}
template <class Message>
[[nodiscard]] Result<Message> decode(std::span<const std::byte> bytes) {
  base::ArchiveReader in(bytes);
  Message out;
  in(out);
  if (!in.at_end()) return Error{Errc::kMalformed, "the peer broke the protocol"};
  return out;
}

// Part is what one stream carries of a tensor.
struct Part {
  std::size_t offset = 0;
  std::size_t bytes = 0;
};
// part_of says which part of a job's input or answer of `bytes` bytes a stream carries; nothing if
// none. Tensors of 256 KiB and more are cut into parts of at least half of that, at most one a
// stream, in order from stream (id mod streams); smaller ones, and those of no bytes, are one part.
// REQUIRES: stream < streams.
[[nodiscard]] std::optional<Part> part_of(std::uint64_t id, std::size_t bytes, std::size_t streams,
                                          std::size_t stream) noexcept;

}  // namespace slalom::device::remote
