// SPDX-License-Identifier: Apache-2.0
// One description of each message serves the reader and the writer, so they cannot disagree.
#include "session/control.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "base/bytes.h"

namespace slalom::session {
namespace {

constexpr std::size_t kMaxText = 255;
constexpr std::uint32_t kMaxOutputs = 1024;

class Writer {
 public:
  static constexpr bool kReading = false;

  template <class T>
  void number(const T& value, T /*least*/ = {}, T /*most*/ = {}) {
    out_.write(value);
  }
  template <class T>
  void enumeration(const T& value, T /*first*/, T /*last*/) {
    out_.write(static_cast<std::uint8_t>(value));
  }
  void flag(const bool& value) { out_.write(static_cast<std::uint8_t>(value ? 1 : 0)); }
  void digest(const model::Digest& value) { out_.put(value); }
  void text(const std::string& value) {
    const auto size = std::min(value.size(), kMaxText);
    out_.write(static_cast<std::uint8_t>(size));
    out_.put(std::as_bytes(std::span(value)).first(size));
  }
  template <class T>
  void array(const std::vector<T>& values) {
    out_.write(static_cast<std::uint64_t>(values.size()));
    out_.put(std::as_bytes(std::span(values)));
  }
  template <class T, class Each>
  void list(const std::vector<T>& values, Each&& each) {
    out_.write(static_cast<std::uint32_t>(values.size()));
    for (const T& value : values) each(value);
  }
  void require(bool /*condition*/) {}

  [[nodiscard]] std::vector<std::byte> release() { return out_.release(); }

 private:
  base::ByteWriter out_;
};

class Reader {
 public:
  static constexpr bool kReading = true;

  explicit Reader(std::span<const std::byte> bytes) : in_(bytes) {}

  // Without a range (most == 0) every value is taken.
  template <class T>
  void number(T& value, T least = {}, T most = {}) {
    value = in_.read<T>();
    if (most != T{}) require(value >= least && value <= most);
  }
  template <class T>
  void enumeration(T& value, T first, T last) {
    const auto raw = in_.read<std::uint8_t>();
    require(raw >= static_cast<std::uint8_t>(first) && raw <= static_cast<std::uint8_t>(last));
    value = static_cast<T>(raw);
  }
  void flag(bool& value) {
    const auto raw = in_.read<std::uint8_t>();
    require(raw <= 1);
    value = raw == 1;
  }
  void digest(model::Digest& value) {
    const auto bytes = in_.take(value.size());
    if (!bytes.empty()) std::memcpy(value.data(), bytes.data(), value.size());
  }
  void text(std::string& value) {
    const auto bytes = in_.take(in_.read<std::uint8_t>());
    value.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const char c : value) require(c >= 0x20 && c < 0x7f);
  }
  template <class T>
  void array(std::vector<T>& values) {
    const auto count = in_.read<std::uint64_t>();
    if (count > in_.remaining() / sizeof(T)) return in_.fail();
    const auto bytes = in_.take(static_cast<std::size_t>(count) * sizeof(T));
    values.resize(static_cast<std::size_t>(count));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  }
  template <class T, class Each>
  void list(std::vector<T>& values, Each&& each) {
    const auto count = in_.read<std::uint32_t>();
    if (count > kMaxOutputs || count > in_.remaining()) return in_.fail();
    values.resize(count);
    for (T& value : values) each(value);
  }
  void require(bool condition) {
    if (!condition) in_.fail();
  }

  [[nodiscard]] bool at_end() const { return in_.at_end(); }

 private:
  base::ByteReader in_;
};

// The reader fills mutable messages, the writer visits const ones.
template <class A, class T>
using Ref = std::conditional_t<A::kReading, T&, const T&>;

template <class A>
void fields(A& a, Ref<A, Hello> m) {
  a.number(m.version);
}
template <class A>
void fields(A& a, Ref<A, Welcome> m) {
  a.number(m.version);
  a.enumeration(m.state, State::kEmpty, State::kStarted);
  a.digest(m.digest);
  a.number(m.input_bytes);
}
template <class A>
void fields(A& a, Ref<A, PlanSize> m) {
  a.number(m.bytes, std::uint64_t{1}, kMaxPlanBytes);
}
template <class A>
void fields(A& a, Ref<A, PlanLoaded> m) {
  a.digest(m.digest);
  a.number(m.nodes);
  a.number(m.input_bytes);
}
template <class A>
void fields(A& a, Ref<A, Configure> m) {
  a.enumeration(m.integrity, model::Integrity::kOff, model::Integrity::kPreprocessed);
  a.enumeration(m.privacy, model::Privacy::kOff, model::Privacy::kSplit);
  a.enumeration(m.when_dry, vault::WhenDry::kInline, vault::WhenDry::kFail);
  a.enumeration(m.store, StoreUse::kNone, StoreUse::kKeep);
  a.number(m.soundness_bits, 1U, 256U);
  a.number(m.threads, 0U, 1024U);
  a.number(m.micro_batch, 1U, 256U);
  a.number(m.in_flight, 1U, 64U);
  a.number(m.timeout_ms, 1U, 3'600'000U);
  a.array(m.remote);
  a.require(m.remote.size() <= kMaxNodes);
  for (const std::uint8_t flag : m.remote) a.require(flag <= 1);
}
template <class A>
void fields(A& a, Ref<A, DeviceAttached> m) {
  a.number(m.index);
  a.number(m.segment_bytes);
}
template <class A>
void fields(A& a, Ref<A, Started> m) {
  a.number(m.layers_checked);
  a.number(m.soundness_bits);
}
template <class A>
void fields(A& a, Ref<A, OutputTensor> m) {
  a.number(m.tensor);
  a.enumeration(m.dtype, model::Dtype::kU8, model::Dtype::kI32);
  if (m.dtype == model::Dtype::kU8) {
    a.array(m.codes);
  } else {
    a.array(m.integers);
  }
}
template <class A>
void fields(A& a, Ref<A, Output> m) {
  a.number(m.image);
  a.list(m.outputs, [&a](auto& output) { fields(a, output); });
}
template <class A>
void fields(A& a, Ref<A, ErrorText> m) {
  a.enumeration(m.code, Errc::kInvalidArgument, Errc::kInternal);
  a.text(m.text);
}
template <class A>
void fields(A& a, Ref<A, Failed> m) {
  a.number(m.image);
  fields(a, m.error);
}
template <class A>
void fields(A& a, Ref<A, RunDone> m) {
  a.flag(m.failed);
  fields(a, m.error);
}
template <class A>
void fields(A& a, Ref<A, Prepare> m) {
  a.number(m.count);
}
template <class A>
void fields(A& a, Ref<A, Progress> m) {
  a.number(m.made);
  a.number(m.count);
}
template <class A>
void fields(A& a, Ref<A, Prepared> m) {
  a.number(m.made);
}
template <class A>
void fields(A& a, Ref<A, Stock> m) {
  a.number(m.images);
  a.number(m.bytes_per_image);
  a.flag(m.dead_stock);
}
template <class A>
void fields(A& a, Ref<A, Report> m) {
  a.number(m.version);
  a.number(m.cpu_features);
  a.number(m.processors);
  a.number(m.lock_limit);
  a.number(m.memory_bytes);
  a.flag(m.dumpable);
  a.flag(m.core_dumps);
}
template <class A>
void fields(A& a, Ref<A, runtime::Stats> m) {
  a.number(m.images);
  a.number(m.checks_performed);
  a.number(m.checks_failed);
  a.number(m.layers_checked);
  a.number(m.soundness_bits);
  a.number(m.pads_used);
  a.number(m.pads_inline);
  a.number(m.wall_s);
  a.number(m.trusted_s);
  a.number(m.wait_s);
  a.number(m.device_s);
  a.number(m.pad_s);
  a.number(m.bytes_out);
  a.number(m.bytes_in);
}

bool known(std::uint16_t kind) noexcept {
  const auto between = [kind](Kind first, Kind last) {
    return kind >= static_cast<std::uint16_t>(first) && kind <= static_cast<std::uint16_t>(last);
  };
  return between(Kind::kHello, Kind::kShutdown) || between(Kind::kWelcome, Kind::kReportIs);
}

// Calls f on every member of CpuFeatures, in its order.
template <class Cpu, class F>
void each_feature(Cpu& cpu, F&& f) {
  f(cpu.sse41);
  f(cpu.ssse3);
  f(cpu.avx2);
  f(cpu.avx512);
  f(cpu.avx512_ifma);
  f(cpu.avx512_vbmi);
  f(cpu.avx512_vnni);
  f(cpu.avx_vnni);
  f(cpu.amx_int8);
  f(cpu.aes);
  f(cpu.vaes);
  f(cpu.rdseed);
}
static_assert(sizeof(base::CpuFeatures) == 12, "each_feature must name every member");

}  // namespace

std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header) {
  std::array<std::byte, kFrameHeaderBytes> out{};
  const auto kind = static_cast<std::uint16_t>(header.kind);
  std::memcpy(out.data(), &header.bytes, sizeof(header.bytes));
  std::memcpy(out.data() + sizeof(header.bytes), &kind, sizeof(kind));
  return out;
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
  Writer writer;
  fields(writer, message);
  return writer.release();
}

template <class Message>
Result<Message> decode(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  Message message;
  fields(reader, message);
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
  std::uint32_t bits = 0;
  std::uint32_t bit = 1;
  each_feature(cpu, [&](const bool& feature) {
    bits |= feature ? bit : 0;
    bit <<= 1;
  });
  return bits;
}

base::CpuFeatures unpack_features(std::uint32_t bits) noexcept {
  base::CpuFeatures cpu;
  each_feature(cpu, [&](bool& feature) {
    feature = (bits & 1) != 0;
    bits >>= 1;
  });
  return cpu;
}

}  // namespace slalom::session
