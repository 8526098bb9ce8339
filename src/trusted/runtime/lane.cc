// SPDX-License-Identifier: Apache-2.0
#include "runtime/lane.h"

#include <cstring>
#include <variant>

namespace slalom::runtime {

Result<base::SecretArena> make_lanes(const Setup& setup, std::vector<Lane>& lanes,
                                     std::span<std::uint8_t>& input) {
  using base::SecretArena;
  const model::Plan& plan = setup.plan;
  const Program& program = setup.program;
  const std::size_t images = setup.options.micro_batch;
  const std::size_t sums = program.links.size() * images;
  std::size_t image_bytes = 0;
  for (const model::TensorId id : plan.inputs) image_bytes += plan.tensors[id].shape.elements();
  const std::size_t each = SecretArena::bytes_for<std::byte>(program.arena_bytes) +
                           SecretArena::bytes_for<field::Residues>(sums);
  auto memory = SecretArena::create(
      setup.options.in_flight * each + SecretArena::bytes_for<std::uint8_t>(image_bytes),
      base::Lock::kWhereAllowed);
  if (!memory) return memory.error();
  input = memory->take<std::uint8_t>(image_bytes);
  lanes.resize(setup.options.in_flight);
  for (Lane& lane : lanes) {
    lane.arena = memory->take<std::byte>(program.arena_bytes).data();
    lane.input_sums = memory->take<field::Residues>(sums);
    lane.awaited.resize(program.links.size());
    lane.tickets.reserve(images);
    for (const model::Node& node : plan.nodes) {
      const auto* constant = std::get_if<model::Constant>(&node.op);
      for (std::size_t b = 0; constant != nullptr && b < images; ++b) {
        std::memcpy(setup.tensor(lane.arena, node.output, b), constant->codes.data(),
                    constant->codes.size());
      }
    }
  }
  return memory;
}

}  // namespace slalom::runtime
