// SPDX-License-Identifier: Apache-2.0
// The plan's bytes (docs/plan-format.md): magic, version, fields in the order below, SHA-256
// digest. One description of each record serves the reader and the writer, so they cannot disagree.

#include <openssl/sha.h>

#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

#include "base/assert.h"
#include "base/bytes.h"
#include "model/plan.h"

namespace slalom::model {
namespace {

constexpr std::array<char, 8> kMagic = {'S', 'L', 'A', 'L', 'O', 'M', 'P', 'L'};
// Far above any real network; a length beyond them is refused before memory is asked for.
constexpr std::uint32_t kMaxText = 4096;
constexpr std::uint32_t kMaxItems = 1U << 16;
constexpr std::uint64_t kMaxArray = 1ULL << 32;

class Writer {
 public:
  static constexpr bool kReading = false;
  base::ByteWriter out;

  template <class T>
  void number(const T& value) {
    out.write(value);
  }
  void text(const std::string& value) {
    out.write(static_cast<std::uint32_t>(value.size()));
    out.put(std::as_bytes(std::span(value)));
  }
  template <class T>
  void array(const std::vector<T>& values) {
    out.write(static_cast<std::uint64_t>(values.size()));
    out.put(std::as_bytes(std::span(values)));
  }
  template <class T, class F>
  void list(const std::vector<T>& values, F&& each) {
    out.write(static_cast<std::uint32_t>(values.size()));
    for (const T& value : values) each(value);
  }
};

class Reader {
 public:
  static constexpr bool kReading = true;
  base::ByteReader in;

  explicit Reader(std::span<const std::byte> bytes) noexcept : in(bytes) {}

  template <class T>
  void number(T& value) {
    value = in.read<T>();
  }
  void text(std::string& value) {
    const auto size = in.read<std::uint32_t>();
    if (size > kMaxText) in.fail();
    const auto bytes = in.take(size);
    value.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    // A name is shown to people: no control characters.
    for (const char c : value) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) in.fail();
    }
  }
  template <class T>
  void array(std::vector<T>& values) {
    const auto count = in.read<std::uint64_t>();
    if (count > kMaxArray || count > in.remaining() / sizeof(T)) {
      in.fail();
      return;
    }
    const auto bytes = in.take(static_cast<std::size_t>(count) * sizeof(T));
    values.resize(static_cast<std::size_t>(count));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  }
  template <class T, class F>
  void list(std::vector<T>& values, F&& each) {
    const auto count = in.read<std::uint32_t>();
    // Every item takes at least one byte.
    if (count > kMaxItems || count > in.remaining()) {
      in.fail();
      return;
    }
    values.resize(count);
    for (T& value : values) {
      if (!in.ok()) return;
      each(value);
    }
  }
};

// The reader fills mutable records, the writer visits const ones.
template <class A, class T>
using Ref = std::conditional_t<A::kReading, T&, const T&>;

template <class A, class T>
void enumeration(A& a, Ref<A, T> value) {
  if constexpr (A::kReading) {
    value = static_cast<T>(a.in.template read<std::uint8_t>());
  } else {
    a.out.write(static_cast<std::uint8_t>(value));
  }
}
template <class A>
void flag(A& a, Ref<A, bool> value) {
  if constexpr (A::kReading) {
    const auto raw = a.in.template read<std::uint8_t>();
    if (raw > 1) a.in.fail();
    value = raw == 1;
  } else {
    a.out.write(static_cast<std::uint8_t>(value ? 1 : 0));
  }
}
// present writes whether an optional is there; the reader creates it.
template <class A, class T>
bool present(A& a, Ref<A, std::optional<T>> value) {
  bool there = value.has_value();
  flag(a, there);
  if constexpr (A::kReading) {
    if (there) value.emplace();
  }
  return there;
}

template <class A>
void fields(A& a, Ref<A, Shape> s) {
  a.number(s.h);
  a.number(s.w);
  a.number(s.c);
}
template <class A>
void fields(A& a, Ref<A, Window> w) {
  a.number(w.kernel_h);
  a.number(w.kernel_w);
  a.number(w.stride_h);
  a.number(w.stride_w);
  a.number(w.dilation_h);
  a.number(w.dilation_w);
  a.number(w.pad_top);
  a.number(w.pad_left);
  a.number(w.pad_bottom);
  a.number(w.pad_right);
}
template <class A>
void fields(A& a, Ref<A, Requant> r) {
  a.array(r.multiplier);
  a.number(r.zero_point);
  a.number(r.lo);
  a.number(r.hi);
  a.array(r.table);
}
template <class A>
void fields(A& a, Ref<A, ConvStage> s) {
  fields<A>(a, s.conv.in);
  fields<A>(a, s.conv.out);
  fields<A>(a, s.conv.window);
  a.number(s.conv.groups);
  a.array(s.weights);
}
template <class A, class T>
void clamp_fields(A& a, T& op) {
  a.number(op.lo);
  a.number(op.hi);
}

template <class A>
void fields(A& a, Ref<A, Linear> op) {
  a.list(op.stages, [&](auto& stage) { fields<A>(a, stage); });
  a.array(op.bias);
  if (present<A, field::Field>(a, op.field)) enumeration<A, field::Field>(a, *op.field);
  fields<A>(a, op.requant);
}
template <class A>
void fields(A& a, Ref<A, Add> op) {
  a.number(op.multiplier_a);
  a.number(op.multiplier_b);
  clamp_fields(a, op);
}
template <class A>
void fields(A& a, Ref<A, Mul> op) {
  a.number(op.multiplier);
  clamp_fields(a, op);
}
template <class A>
void fields(A& a, Ref<A, Table> op) {
  a.array(op.table);
}
template <class A>
void fields(A& a, Ref<A, Prelu> op) {
  a.number(op.positive);
  a.array(op.negative);
  clamp_fields(a, op);
}
template <class A>
void fields(A& a, Ref<A, MaxPool> op) {
  fields<A>(a, op.window);
}
template <class A>
void fields(A& a, Ref<A, AveragePool> op) {
  fields<A>(a, op.window);
  flag<A>(a, op.count_padding);
  a.number(op.multiplier);
  clamp_fields(a, op);
}
template <class A>
void fields(A& a, Ref<A, Concat> op) {
  a.number(op.axis);
  a.array(op.multiplier);
}
template <class A>
void fields(A& a, Ref<A, Pad> op) {
  for (auto& n : op.before) a.number(n);
  for (auto& n : op.after) a.number(n);
  a.number(op.code);
}
template <class A>
void fields(A& a, Ref<A, Slice> op) {
  for (auto& n : op.begin) a.number(n);
  for (auto& n : op.step) a.number(n);
}
template <class A>
void fields(A& a, Ref<A, Transpose> op) {
  for (auto& n : op.perm) a.number(n);
}
template <class A>
void fields(A&, Ref<A, Reshape>) {}
template <class A>
void fields(A& a, Ref<A, Softmax> op) {
  a.array(op.table);
}
template <class A>
void fields(A& a, Ref<A, Lrn> op) {
  a.number(op.size);
  a.number(op.beta_quarters);
  a.number(op.alpha);
  a.number(op.bias);
  a.number(op.multiplier);
  clamp_fields(a, op);
}
template <class A>
void fields(A& a, Ref<A, Constant> op) {
  a.array(op.codes);
}

// emplace_op makes the alternative whose index was read.
template <std::size_t kIndex = 0>
bool emplace_op(Op& op, std::size_t index) {
  if constexpr (kIndex < std::variant_size_v<Op>) {
    if (index == kIndex) {
      op.emplace<kIndex>();
      return true;
    }
    return emplace_op<kIndex + 1>(op, index);
  } else {
    return false;
  }
}

template <class A>
void op_fields(A& a, Ref<A, Op> op) {
  auto index = static_cast<std::uint8_t>(op.index());
  a.number(index);
  if constexpr (A::kReading) {
    if (!emplace_op(op, index)) {
      a.in.fail();
      return;
    }
  }
  std::visit([&](auto& alternative) { fields<A>(a, alternative); }, op);
}

template <class A>
void fields(A& a, Ref<A, TensorInfo> t) {
  a.text(t.name);
  fields<A>(a, t.shape);
  enumeration<A, Dtype>(a, t.dtype);
  a.number(t.scale);
  a.number(t.zero_point);
}
template <class A>
void fields(A& a, Ref<A, Node> n) {
  a.text(n.name);
  a.array(n.inputs);
  a.number(n.output);
  op_fields<A>(a, n.op);
}
template <class A>
void fields(A& a, Ref<A, Preprocess> p) {
  a.number(p.resize_shorter);
  a.number(p.crop_h);
  a.number(p.crop_w);
  enumeration<A, Interpolation>(a, p.interpolation);
  flag<A>(a, p.bgr);
  a.array(p.mean);
  a.array(p.std);
}
template <class A>
void fields(A& a, Ref<A, Output> o) {
  a.number(o.tensor);
  enumeration<A, Final>(a, o.function);
}
template <class A>
void fields(A& a, Ref<A, Plan> p) {
  a.text(p.name);
  a.list(p.tensors, [&](auto& t) { fields<A>(a, t); });
  a.array(p.inputs);
  a.list(p.outputs, [&](auto& o) { fields<A>(a, o); });
  a.list(p.nodes, [&](auto& n) { fields<A>(a, n); });
  if (present<A, Preprocess>(a, p.preprocess)) fields<A>(a, *p.preprocess);
  a.list(p.labels, [&](auto& label) { a.text(label); });
}

Digest sha256(std::span<const std::byte> bytes) {
  Digest digest{};
  const auto* done = SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                            reinterpret_cast<unsigned char*>(digest.data()));
  SLALOM_ASSERT(done != nullptr);
  return digest;
}

constexpr std::size_t kHeaderBytes = kMagic.size() + sizeof(std::uint32_t);

}  // namespace

std::vector<std::byte> encode_plan(const Plan& plan) {
  Writer writer;
  writer.out.put(std::as_bytes(std::span(kMagic)));
  writer.out.write(kPlanVersion);
  fields<Writer>(writer, plan);
  const Digest digest = sha256(writer.out.bytes());
  writer.out.put(digest);
  return writer.out.release();
}

Result<Digest> plan_digest(std::span<const std::byte> bytes) {
  if (bytes.size() < kHeaderBytes + sizeof(Digest)) {
    return Error{Errc::kMalformed, "the plan is too short"};
  }
  const Digest digest = sha256(bytes.first(bytes.size() - sizeof(Digest)));
  if (std::memcmp(digest.data(), bytes.last(sizeof(Digest)).data(), sizeof(Digest)) != 0) {
    return Error{Errc::kMalformed,
                 "the plan's digest does not match its content: the file is damaged"};
  }
  return digest;
}

Result<Plan> decode_plan(std::span<const std::byte> bytes) {
  if (bytes.size() < kHeaderBytes || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return Error{Errc::kMalformed,
                 "this is not a plan file: make one with `slalom convert` or `slalom model`"};
  }
  Reader reader(bytes);
  reader.in.take(kMagic.size());
  if (reader.in.read<std::uint32_t>() != kPlanVersion) {
    return Error{Errc::kMalformed,
                 "the plan has another format version: convert the network again"};
  }
  if (auto digest = plan_digest(bytes); !digest.ok()) return digest.error();
  Plan plan;
  fields<Reader>(reader, plan);
  reader.in.take(sizeof(Digest));
  if (!reader.in.at_end()) return Error{Errc::kMalformed, "the plan's records do not parse"};
  SLALOM_TRY(validate(plan));
  return plan;
}

}  // namespace slalom::model
