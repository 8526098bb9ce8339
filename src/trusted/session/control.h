// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/archive.h"
#include "base/cpu.h"
#include "model/mode.h"
#include "model/plan.h"
#include "runtime/executor.h"
#include "slalom/result.h"
#include "vault/pads.h"

// The control protocol between the trusted process and the untrusted host
// (docs/control-protocol.md): frames over a stream socket. A frame is a header of eight bytes and a
// payload; payloads are the messages below, or raw bytes where the Kind says so. Little-endian,
// fixed order.
//
// Every decoder is all or nothing: a value out of its range, a missing or a trailing byte is
// kMalformed, and encode(decode(bytes)) == bytes. The line after a message is its encoding
// (base/archive.h).

namespace slalom::base {

void fields(auto& a, Is<CpuFeatures> auto& c) {
  a(c.sse41, c.avx2, c.avx512, c.avx512_ifma, c.avx512_vbmi, c.avx512_vnni);
  a(c.amx_int8, c.aes, c.vaes, c.rdseed);
}

}  // namespace slalom::base

namespace slalom::runtime {

void fields(auto& a, base::Is<StepTime> auto& m) { a(m.node, m.trusted_ns, m.device_ns, m.sent); }
void fields(auto& a, base::Is<Stats> auto& m) {
  a(m.images, m.checks_performed, m.checks_failed, m.layers_checked, m.soundness_bits);
  a(m.pads_used, m.pads_inline, m.wall_s, m.trusted_s, m.wait_s, m.device_s, m.pad_s);
  a(m.bytes_out, m.bytes_in, m.steps);
}

}  // namespace slalom::runtime

namespace slalom::session {

using base::Is;

inline constexpr std::uint32_t kControlVersion = 1;

// DO NOT CHANGE THE VALUES: they are on the wire. Requests of the host are below 100, answers
// above.
enum class Kind : std::uint16_t {
  kHello = 1,         // Hello -> Welcome
  kPlan = 2,          // PlanSize, then kPlanBytes until all are sent -> PlanLoaded
  kPlanBytes = 3,     // raw, at most kMaxChunk
  kConfigure = 4,     // Configure, with the pad store's descriptor if it says so -> kDone
  kAttachDevice = 5,  // empty -> DeviceAttached, with the segment's descriptor
  kStart = 6,         // empty -> Started
  kRun = 7,           // empty, then kImage... kRunEnd -> Output or Failed each, then RunDone
  kImage = 8,         // raw: the input codes of one image
  kRunEnd = 9,        // empty
  kPrepare = 10,      // Prepare -> Progress..., then Prepared
  kCancel = 11,       // empty: ends a kPrepare early; has no answer
  kStock = 12,        // empty -> Stock
  kStatistics = 13,   // empty -> runtime::Stats
  kReport = 14,       // empty -> Report
  kReset = 15,        // empty -> kDone: ends the executor, forgets devices and configuration
  kShutdown = 16,     // empty -> kDone, then the process ends

  kWelcome = 101,
  kDone = 102,   // empty
  kError = 103,  // ErrorText, to any request
  kPlanLoaded = 104,
  kDeviceAttached = 105,
  kStarted = 106,
  kOutput = 107,
  kFailed = 108,
  kRunDone = 109,
  kProgress = 110,
  kPrepared = 111,
  kStockIs = 112,
  kStatisticsAre = 113,
  kReportIs = 114,
};

struct FrameHeader {
  std::uint32_t bytes = 0;  // of the payload
  Kind kind = Kind::kHello;
};
inline constexpr std::size_t kFrameHeaderBytes = 8;  // u32 bytes, u16 kind, u16 zero

inline constexpr std::size_t kMaxChunk = std::size_t{1} << 20;
inline constexpr std::uint64_t kMaxPlanBytes = std::uint64_t{1} << 33;
inline constexpr std::size_t kMaxDevices = 16;
inline constexpr std::uint32_t kMaxNodes = 1U << 16;

// State of a trusted process, in the order in which it is reached.
enum class State : std::uint8_t { kEmpty = 0, kLoaded = 1, kConfigured = 2, kStarted = 3 };
constexpr auto range_of(State) { return std::pair(State::kEmpty, State::kStarted); }

struct Hello {
  std::uint32_t version = kControlVersion;
};
void fields(auto& a, Is<Hello> auto& m) { a(m.version); }
struct Welcome {
  std::uint32_t version = kControlVersion;
  State state = State::kEmpty;
  model::Digest digest{};         // zero when no plan is loaded
  std::uint64_t input_bytes = 0;  // of one image
};
void fields(auto& a, Is<Welcome> auto& m) { a(m.version, m.state, m.digest, m.input_bytes); }
struct PlanSize {
  std::uint64_t bytes = 0;  // 1..kMaxPlanBytes
};
void fields(auto& a, Is<PlanSize> auto& m) {
  a(m.bytes);
  a.require(m.bytes >= 1 && m.bytes <= kMaxPlanBytes);
}
struct PlanLoaded {
  model::Digest digest{};
  std::uint32_t nodes = 0;
  std::uint64_t input_bytes = 0;
};
void fields(auto& a, Is<PlanLoaded> auto& m) { a(m.digest, m.nodes, m.input_bytes); }

// StoreUse says where the sealed stock of pads goes.
enum class StoreUse : std::uint8_t {
  kNone = 0,    // into the memory of the trusted process
  kPassed = 1,  // into the file whose descriptor comes with the message
  kKeep = 2,    // the pads of the configuration before, with their stock, serve on
};
constexpr auto range_of(StoreUse) { return std::pair(StoreUse::kNone, StoreUse::kKeep); }

// Configure carries runtime::Options (without cpu: the trusted process asks its own processor), the
// placement (empty: the process's own choice, else one 0 or 1 for each node) and the pads' options.
// Ranges: soundness_bits 1..256, threads 0..1024 (0: one for each processor), micro_batch 1..256,
// in_flight 1..64, timeout_ms 1..3'600'000.
struct Configure {
  model::Integrity integrity = model::Integrity::kPreprocessed;
  model::Privacy privacy = model::Privacy::kOff;
  vault::WhenDry when_dry = vault::WhenDry::kInline;
  StoreUse store = StoreUse::kNone;
  std::uint32_t soundness_bits = 40;
  std::uint32_t threads = 0;
  std::uint32_t micro_batch = 4;
  std::uint32_t in_flight = 3;
  std::uint32_t timeout_ms = 10'000;
  bool bind = false;
  std::vector<std::uint8_t> remote;
};
void fields(auto& a, Is<Configure> auto& m) {
  a(m.integrity, m.privacy, m.when_dry, m.store, m.soundness_bits, m.threads, m.micro_batch);
  a(m.in_flight, m.timeout_ms, m.bind, m.remote);
  a.require(m.soundness_bits >= 1 && m.soundness_bits <= 256);
  a.require(m.threads <= 1024);
  a.require(m.micro_batch >= 1 && m.micro_batch <= 256);
  a.require(m.in_flight >= 1 && m.in_flight <= 64);
  a.require(m.timeout_ms >= 1 && m.timeout_ms <= 3'600'000);
  a.require(m.remote.size() <= kMaxNodes);
  for (const std::uint8_t flag : m.remote) a.require(flag <= 1);
}
struct DeviceAttached {
  std::uint32_t index = 0;
  std::uint64_t segment_bytes = 0;
};
void fields(auto& a, Is<DeviceAttached> auto& m) { a(m.index, m.segment_bytes); }
struct Started {
  std::uint32_t layers_checked = 0;
  double soundness_bits = 0;
};
void fields(auto& a, Is<Started> auto& m) { a(m.layers_checked, m.soundness_bits); }

struct OutputTensor {
  model::TensorId tensor = 0;
  std::vector<std::uint8_t> codes;     // of a u8 tensor, else empty
  std::vector<std::int32_t> integers;  // of an i32 tensor, else empty
};
void fields(auto& a, Is<OutputTensor> auto& m) {
  a(m.tensor, m.codes, m.integers);
  a.require(m.codes.empty() || m.integers.empty());
}
struct Output {
  std::uint64_t image = 0;
  std::vector<OutputTensor> outputs;
};
void fields(auto& a, Is<Output> auto& m) { a(m.image, m.outputs); }
// ErrorText is a slalom::Error on the wire.
struct ErrorText {
  Errc code = Errc::kInternal;
  std::string text;
};
void fields(auto& a, Is<ErrorText> auto& m) { a(m.code, m.text); }
struct Failed {
  std::uint64_t image = 0;
  ErrorText error;
};
void fields(auto& a, Is<Failed> auto& m) { a(m.image, m.error); }
// RunDone ends a run; `error` says why it ended before its last image, if it did.
struct RunDone {
  std::optional<ErrorText> error;
};
void fields(auto& a, Is<RunDone> auto& m) { a(m.error); }
struct Prepare {
  std::uint64_t count = 0;
};
void fields(auto& a, Is<Prepare> auto& m) { a(m.count); }
struct Progress {
  std::uint64_t made = 0;
  std::uint64_t count = 0;
};
void fields(auto& a, Is<Progress> auto& m) { a(m.made, m.count); }
struct Prepared {
  std::uint64_t made = 0;
};
void fields(auto& a, Is<Prepared> auto& m) { a(m.made); }
struct Stock {
  std::uint64_t images = 0;
  std::uint64_t bytes_per_image = 0;
  bool dead_stock = false;  // the store held an earlier process's pads, which were removed
};
void fields(auto& a, Is<Stock> auto& m) { a(m.images, m.bytes_per_image, m.dead_stock); }
// Report is what the trusted process sees of itself and its machine (base/cpu.h, outside.h).
struct Report {
  std::uint32_t version = kControlVersion;
  base::CpuFeatures cpu;
  std::uint32_t processors = 0;
  std::uint64_t lock_limit = 0;
  std::uint64_t memory_bytes = 0;
  bool dumpable = true;
  bool core_dumps = true;
};
void fields(auto& a, Is<Report> auto& m) {
  a(m.version, m.cpu, m.processors, m.lock_limit, m.memory_bytes, m.dumpable);
  a(m.core_dumps);
}

[[nodiscard]] std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header);
// kMalformed: an unknown kind.
[[nodiscard]] Result<FrameHeader> decode_header(
    std::span<const std::byte, kFrameHeaderBytes> bytes);

// encode and decode are for every message above and for runtime::Stats.
template <class Message>
[[nodiscard]] std::vector<std::byte> encode(const Message& message) {
  base::ArchiveWriter writer;
  writer(message);
  return writer.release();
}
// The bytes must be private memory.
template <class Message>
[[nodiscard]] Result<Message> decode(std::span<const std::byte> bytes) {
  base::ArchiveReader reader(bytes);
  Message message;
  reader(message);
  if (!reader.at_end()) return Error{Errc::kMalformed, "a control message that breaks the format"};
  return message;
}

}  // namespace slalom::session
