// SPDX-License-Identifier: Apache-2.0
#include "session/control.h"

#include <bit>

#include "base/archive.h"

namespace slalom::runtime {

template <class A>
void fields(A& a, base::Ref<A, Stats> m) {
  a(m.images, m.checks_performed, m.checks_failed, m.layers_checked, m.soundness_bits);
  a(m.pads_used, m.pads_inline, m.wall_s, m.trusted_s, m.wait_s, m.device_s, m.pad_s);
  a(m.bytes_out, m.bytes_in);
}

}  // namespace slalom::runtime

namespace slalom::session {

using base::Ref;

template <class A>
void fields(A& a, Ref<A, Hello> m) {
  a(m.version);
}
template <class A>
void fields(A& a, Ref<A, Welcome> m) {
  a(m.version, m.state, m.digest, m.input_bytes);
}
template <class A>
void fields(A& a, Ref<A, PlanSize> m) {
  a(m.bytes);
  a.require(m.bytes >= 1 && m.bytes <= kMaxPlanBytes);
}
template <class A>
void fields(A& a, Ref<A, PlanLoaded> m) {
  a(m.digest, m.nodes, m.input_bytes);
}
template <class A>
void fields(A& a, Ref<A, Configure> m) {
  a(m.integrity, m.privacy, m.when_dry, m.store, m.soundness_bits, m.threads, m.micro_batch);
  a(m.in_flight, m.timeout_ms, m.remote);
  a.require(m.soundness_bits >= 1 && m.soundness_bits <= 256);
  a.require(m.threads <= 1024);
  a.require(m.micro_batch >= 1 && m.micro_batch <= 256);
  a.require(m.in_flight >= 1 && m.in_flight <= 64);
  a.require(m.timeout_ms >= 1 && m.timeout_ms <= 3'600'000);
  a.require(m.remote.size() <= kMaxNodes);
  for (const std::uint8_t flag : m.remote) a.require(flag <= 1);
}
template <class A>
void fields(A& a, Ref<A, DeviceAttached> m) {
  a(m.index, m.segment_bytes);
}
template <class A>
void fields(A& a, Ref<A, Started> m) {
  a(m.layers_checked, m.soundness_bits);
}
template <class A>
void fields(A& a, Ref<A, OutputTensor> m) {
  a(m.tensor, m.codes, m.integers);
  a.require(m.codes.empty() || m.integers.empty());
}
template <class A>
void fields(A& a, Ref<A, Output> m) {
  a(m.image, m.outputs);
}
template <class A>
void fields(A& a, Ref<A, ErrorText> m) {
  a(m.code, m.text);
}
template <class A>
void fields(A& a, Ref<A, Failed> m) {
  a(m.image, m.error);
}
template <class A>
void fields(A& a, Ref<A, RunDone> m) {
  a(m.error);
}
template <class A>
void fields(A& a, Ref<A, Prepare> m) {
  a(m.count);
}
template <class A>
void fields(A& a, Ref<A, Progress> m) {
  a(m.made, m.count);
}
template <class A>
void fields(A& a, Ref<A, Prepared> m) {
  a(m.made);
}
template <class A>
void fields(A& a, Ref<A, Stock> m) {
  a(m.images, m.bytes_per_image, m.dead_stock);
}
template <class A>
void fields(A& a, Ref<A, Report> m) {
  a(m.version, m.cpu_features, m.processors, m.lock_limit, m.memory_bytes, m.dumpable);
  a(m.core_dumps);
}

namespace {

bool known(std::uint16_t kind) noexcept {
  const auto between = [kind](Kind first, Kind last) {
    return kind >= static_cast<std::uint16_t>(first) && kind <= static_cast<std::uint16_t>(last);
  };
  return between(Kind::kHello, Kind::kShutdown) || between(Kind::kWelcome, Kind::kReportIs);
}

using Flags = std::array<bool, sizeof(base::CpuFeatures)>;  // it holds nothing but bools

}  // namespace

std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header) {
  return std::bit_cast<std::array<std::byte, kFrameHeaderBytes>>(
      header.bytes | std::uint64_t{static_cast<std::uint16_t>(header.kind)} << 32);
}

Result<FrameHeader> decode_header(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  base::ByteReader in(bytes);
  const auto size = in.read<std::uint32_t>();
  const auto kind = in.read<std::uint16_t>();
  if (in.read<std::uint16_t>() != 0 || !known(kind)) {
    return Error{Errc::kMalformed, "a control frame of no known kind"};
  }
  return FrameHeader{size, static_cast<Kind>(kind)};
}

template <class Message>
std::vector<std::byte> encode(const Message& message) {
  base::ArchiveWriter writer;
  writer(message);
  return writer.release();
}

template <class Message>
Result<Message> decode(std::span<const std::byte> bytes) {
  base::ArchiveReader reader(bytes);
  Message message;
  reader(message);
  if (!reader.at_end()) return Error{Errc::kMalformed, "a control message that breaks the format"};
  return message;
}

#define SLALOM_MESSAGE(Type)                           \
  template std::vector<std::byte> encode(const Type&); \
  template Result<Type> decode(std::span<const std::byte>)

SLALOM_MESSAGE(Hello);
SLALOM_MESSAGE(Welcome);
SLALOM_MESSAGE(PlanSize);
SLALOM_MESSAGE(PlanLoaded);
SLALOM_MESSAGE(Configure);
SLALOM_MESSAGE(DeviceAttached);
SLALOM_MESSAGE(Started);
SLALOM_MESSAGE(Output);
SLALOM_MESSAGE(ErrorText);
SLALOM_MESSAGE(Failed);
SLALOM_MESSAGE(RunDone);
SLALOM_MESSAGE(Prepare);
SLALOM_MESSAGE(Progress);
SLALOM_MESSAGE(Prepared);
SLALOM_MESSAGE(Stock);
SLALOM_MESSAGE(Report);
SLALOM_MESSAGE(runtime::Stats);

#undef SLALOM_MESSAGE

std::uint32_t pack_features(const base::CpuFeatures& cpu) noexcept {
  const auto flags = std::bit_cast<Flags>(cpu);
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < flags.size(); ++i) bits |= std::uint32_t{flags[i]} << i;
  return bits;
}

base::CpuFeatures unpack_features(std::uint32_t bits) noexcept {
  Flags flags{};
  for (std::size_t i = 0; i < flags.size(); ++i) flags[i] = ((bits >> i) & 1) != 0;
  return std::bit_cast<base::CpuFeatures>(flags);
}

}  // namespace slalom::session
