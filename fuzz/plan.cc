// SPDX-License-Identifier: Apache-2.0
// The plan's decoder. The input is a plan file; the digest that closes it is put right first, since
// no mutation would ever hit it, and then left as it is. A plan that is accepted must be valid, its
// re-encoding must be the same bytes, and the bounds that its layers promise must hold.
#include <openssl/sha.h>

#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "model/plan.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file

void require(bool condition) {
  if (!condition) std::abort();
}

void decode(std::span<const std::byte> bytes) {
  const auto plan = model::decode_plan(bytes);
  if (!plan.ok()) {
    require(plan.error().code == Errc::kMalformed);
    return;
  }
  require(model::validate(*plan).ok());
  const std::vector<std::byte> again = model::encode_plan(*plan);
  require(again.size() == bytes.size());
  require(std::memcmp(again.data(), bytes.data(), bytes.size()) == 0);
  require(model::plan_digest(bytes).ok());
  for (const model::Node& node : plan->nodes) {
    const auto* linear = std::get_if<model::Linear>(&node.op);
    if (linear == nullptr) continue;
    const auto bounds = model::sum_bound(*linear);
    for (std::size_t c = 0; c < bounds.size(); ++c) {
      const std::int64_t bias = linear->bias[c];
      require(bounds[c] + std::abs(bias) < std::int64_t{1} << 31);
      require(!linear->field || 2 * bounds[c] < std::int64_t{modulus(*linear->field)});
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  decode(input);
  constexpr std::size_t kDigest = sizeof(model::Digest);
  if (size < kDigest) return 0;
  std::vector<std::byte> repaired(input.begin(), input.end());
  SHA256(data, size - kDigest, reinterpret_cast<unsigned char*>(repaired.data() + size - kDigest));
  decode(repaired);
  return 0;
}
