// SPDX-License-Identifier: Apache-2.0
// The plan's bytes (docs/plan-format.md): magic, version, the fields in the order below, SHA-256
// digest.

#include <openssl/sha.h>

#include <cstring>

#include "base/archive.h"
#include "base/assert.h"
#include "model/plan.h"

namespace slalom::model {

using base::Is;

void fields(auto& a, Is<Shape> auto& s) { a(s.h, s.w, s.c); }
void fields(auto& a, Is<Window> auto& w) {
  a(w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.dilation_h, w.dilation_w);
  a(w.pad_top, w.pad_left, w.pad_bottom, w.pad_right);
}
void fields(auto& a, Is<Requant> auto& r) { a(r.multiplier, r.zero_point, r.lo, r.hi, r.table); }
void fields(auto& a, Is<ConvStage> auto& s) {
  a(s.conv.in, s.conv.out, s.conv.window, s.conv.groups, s.weights);
}
void fields(auto& a, Is<Linear> auto& op) { a(op.stages, op.bias, op.field, op.requant); }
void fields(auto& a, Is<Add> auto& op) { a(op.multiplier_a, op.multiplier_b, op.lo, op.hi); }
void fields(auto& a, Is<Mul> auto& op) { a(op.multiplier, op.lo, op.hi); }
void fields(auto& a, Is<Table> auto& op) { a(op.table); }
void fields(auto& a, Is<Prelu> auto& op) { a(op.positive, op.negative, op.lo, op.hi); }
void fields(auto& a, Is<MaxPool> auto& op) { a(op.window); }
void fields(auto& a, Is<AveragePool> auto& op) {
  a(op.window, op.count_padding, op.multiplier, op.lo, op.hi);
}
void fields(auto& a, Is<Concat> auto& op) { a(op.axis, op.multiplier); }
void fields(auto& a, Is<Pad> auto& op) { a(op.before, op.after, op.code); }
void fields(auto& a, Is<Slice> auto& op) { a(op.begin, op.step); }
void fields(auto& a, Is<Transpose> auto& op) { a(op.perm); }
void fields(auto&, Is<Reshape> auto&) {}
void fields(auto& a, Is<Softmax> auto& op) { a(op.table); }
void fields(auto& a, Is<Lrn> auto& op) {
  a(op.size, op.beta_quarters, op.alpha, op.bias, op.multiplier, op.lo, op.hi);
}
void fields(auto& a, Is<Constant> auto& op) { a(op.codes); }
void fields(auto& a, Is<TensorInfo> auto& t) { a(t.name, t.shape, t.dtype, t.scale, t.zero_point); }
void fields(auto& a, Is<Node> auto& n) { a(n.name, n.inputs, n.output, n.op); }
void fields(auto& a, Is<Preprocess> auto& p) {
  a(p.resize_shorter, p.crop_h, p.crop_w, p.interpolation, p.bgr, p.mean, p.std);
}
void fields(auto& a, Is<Output> auto& o) { a(o.tensor, o.function); }
void fields(auto& a, Is<Plan> auto& p) {
  a(p.name, p.tensors, p.inputs, p.outputs, p.nodes, p.preprocess, p.labels);
}

namespace {

constexpr std::array<char, 8> kMagic = {'S', 'L', 'A', 'L', 'O', 'M', 'P', 'L'};
constexpr std::size_t kHeaderBytes = kMagic.size() + sizeof(std::uint32_t);

Digest sha256(std::span<const std::byte> bytes) {
  Digest digest{};
  const auto* done = SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                            reinterpret_cast<unsigned char*>(digest.data()));
  SLALOM_ASSERT(done != nullptr);
  return digest;
}

}  // namespace

std::vector<std::byte> encode_plan(const Plan& plan) {
  base::ArchiveWriter writer;
  writer(kMagic, kPlanVersion, plan);
  writer.put(sha256(writer.bytes()));
  return writer.release();
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
  base::ArchiveReader reader(bytes.subspan(kMagic.size()));
  if (reader.read<std::uint32_t>() != kPlanVersion) {
    return Error{Errc::kMalformed,
                 "the plan has another format version: convert the network again"};
  }
  if (auto digest = plan_digest(bytes); !digest.ok()) return digest.error();
  Plan plan;
  reader(plan);
  reader.take(sizeof(Digest));
  if (!reader.at_end()) return Error{Errc::kMalformed, "the plan's records do not parse"};
  SLALOM_TRY(validate(plan));
  return plan;
}

}  // namespace slalom::model
