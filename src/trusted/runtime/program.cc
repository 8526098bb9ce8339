// SPDX-License-Identifier: Apache-2.0
#include "runtime/program.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>
#include <variant>

#include "base/round_up.h"
#include "runtime/memory_plan.h"
#include "vault/pads.h"

namespace slalom::runtime {
namespace {

constexpr std::uint32_t kNever = ~0U;
// kTileElements of one image are worked on at a time: with four images, pads and the input side's
// vectors a tile needs some 300 KiB.
constexpr std::size_t kTileElements = 16'384;
// Small steps are cut finer, so that each thread gets work, down to tiles of kSmallTile.
constexpr std::size_t kSmallTile = 2'048;

class Compiler {
 public:
  Compiler(const model::Plan& plan, const Placement& placement, const Operators& operators,
           const ProgramOptions& options)
      : plan_(plan), placement_(placement), operators_(operators), options_(options) {}

  Program compile() && {
    find_roots();
    order_nodes();
    make_steps();
    make_links();
    for (Step& step : program_.steps) cut(step);
    place_tensors();
    place_slots();
    for (model::TensorId t = 0; t < root_.size(); ++t) program_.places[t] = place(t);
    return std::move(program_);
  }

 private:
  [[nodiscard]] std::size_t elements(model::TensorId t) const {
    return plan_.tensors[t].shape.elements();
  }
  [[nodiscard]] std::size_t bytes(model::TensorId t) const {
    return elements(t) * element_bytes(plan_.tensors[t].dtype);
  }
  // made is the step in which a tensor's memory is written; 0: inputs and constants.
  [[nodiscard]] std::uint32_t made(model::TensorId t) const { return made_[root_[t]]; }
  [[nodiscard]] Place& place(model::TensorId t) { return program_.places[root_[t]]; }
  [[nodiscard]] std::uint32_t last_step() const {
    return static_cast<std::uint32_t>(program_.steps.size() - 1);
  }

  void find_roots() {
    program_.places.resize(plan_.tensors.size());
    root_.resize(plan_.tensors.size());
    std::iota(root_.begin(), root_.end(), model::TensorId{0});
    for (const model::Node& node : plan_.nodes) {
      if (std::holds_alternative<model::Reshape>(node.op)) {
        root_[node.output] = root_[node.inputs[0]];
      }
    }
  }

  // A node's depth is the largest number of remote layers on a path to it, itself included.
  void order_nodes() {
    std::vector<std::uint32_t> depth(plan_.tensors.size(), 0);
    made_.assign(plan_.tensors.size(), 0);
    for (std::uint32_t n = 0; n < plan_.nodes.size(); ++n) {
      const model::Node& node = plan_.nodes[n];
      std::uint32_t d = 0;
      for (const model::TensorId in : node.inputs) d = std::max(d, depth[in]);
      depth[node.output] = d + (placement_.remote[n] ? 1 : 0);
      if (operators_[n] || std::holds_alternative<model::Linear>(node.op)) {
        order_.push_back(n);
        made_[node.output] = kNever;
      }
    }
    std::ranges::stable_sort(order_, {},
                             [&](auto node) { return depth[plan_.nodes[node].output]; });
  }

  void make_steps() {
    Step input;
    input.kind = StepKind::kInput;
    program_.steps.push_back(input);
    for (std::size_t i = 0; i < order_.size(); ++i) {
      if (order_[i] == kNever) continue;
      start_step(order_[i]);
      for (std::size_t j = i + 1; j < order_.size(); ++j) {
        if (order_[j] != kNever && join(order_[j])) order_[j] = kNever;
      }
    }
  }

  void start_step(std::uint32_t n) {
    const model::Node& node = plan_.nodes[n];
    Step step;
    step.head.index = n;
    const std::size_t out = elements(node.output);
    if (const Operator* op = operators_[n].get(); op != nullptr) {
      step.kind = StepKind::kOperator;
      step.head.total = op->units();
      step.whole = !op->ordered();
    } else if (placement_.remote[n]) {
      step.kind = StepKind::kRemoteLinear;
      step.head.total = std::get<model::Linear>(node.op).out().positions();
    } else {
      step.kind = StepKind::kLocalLinear;
      step.whole = true;
    }
    // After a head that was computed as a whole, tiles may be cut anywhere.
    step.units = step.whole ? out : step.head.total;
    step.head.per_unit = 1;
    step.unit_elements = out / step.units;
    banded_ = false;
    program_.steps.push_back(std::move(step));
    make(node.output, program_.steps.back().unit_elements);
  }

  // make says that the step under construction makes a tensor, so many elements a unit.
  void make(model::TensorId tensor, std::size_t per_unit) {
    made_[tensor] = last_step();
    place(tensor).elements = {tensor, per_unit, elements(tensor)};
  }

  // join adds node n to the tail of the step under construction if it can run tile by tile there.
  bool join(std::uint32_t n) {
    const Operator* op = operators_[n].get();
    if (op == nullptr) return false;
    const model::Node& node = plan_.nodes[n];
    std::optional<std::size_t> per_unit;
    for (const model::TensorId in : node.inputs) {
      if (made(in) == kNever) return false;
      if (made(in) != last_step()) continue;
      const std::size_t here = place(in).elements.per_unit;
      if (per_unit && *per_unit != here) return false;
      if (op->flat() && elements(in) != elements(node.output)) return false;
      per_unit = here;
    }
    if (!per_unit) return false;
    if (op->flat()) {
      append(n, *per_unit, *per_unit);
      return true;
    }
    return join_band(n, *op);
  }

  // join_band adds a pooling whose output rows each have rows of their own in the input, and makes
  // those rows the step's unit. Once only: a second one would need units of units.
  bool join_band(std::uint32_t n, const Operator& op) {
    const model::Node& node = plan_.nodes[n];
    const model::Shape& in = plan_.tensors[node.inputs[0]].shape;
    Step& step = program_.steps.back();
    if (op.band() == 0 || banded_) return false;
    const std::size_t unit = op.band() * in.w * in.c;
    if (unit % step.unit_elements != 0) return false;
    const std::size_t times = unit / step.unit_elements;
    step.units = op.units();
    step.unit_elements = unit;
    const auto widen = [&](Part& part) {
      part.per_unit *= times;
      place(plan_.nodes[part.index].output).elements.per_unit *= times;
    };
    widen(step.head);
    for (Part& part : step.tail) widen(part);
    banded_ = true;
    append(n, 1, elements(node.output) / op.units());
    return true;
  }

  void append(std::uint32_t n, std::size_t op_units, std::size_t per_unit) {
    program_.steps.back().tail.push_back({n, op_units, operators_[n]->units()});
    make(plan_.nodes[n].output, per_unit);
  }

  void make_links() {
    std::vector<std::uint32_t> upload_of(plan_.tensors.size(), kNever);
    for (std::uint32_t i = 0; i < program_.steps.size(); ++i) {
      Step& step = program_.steps[i];
      if (step.kind != StepKind::kRemoteLinear) continue;
      const model::Node& node = plan_.nodes[step.head.index];
      const auto& linear = std::get<model::Linear>(node.op);
      std::uint32_t& upload = upload_of[node.inputs[0]];
      if (upload == kNever) {
        upload = static_cast<std::uint32_t>(program_.uploads.size());
        Upload u;
        u.tensor = node.inputs[0];
        u.field = *linear.field;
        u.image_bytes =
            linear.in().elements() * (options_.blinded ? field::word_bytes(u.field) : 1);
        program_.uploads.push_back(std::move(u));
      }
      step.link = static_cast<std::uint32_t>(program_.links.size());
      program_.uploads[upload].links.push_back(step.link);
      Link link;
      link.node = step.head.index;
      link.step = i;
      link.upload = upload;
      link.field = *linear.field;
      link.positions = linear.out().positions();
      link.channels = linear.out().c;
      link.image_bytes = link.words() * field::word_bytes(link.field);
      program_.links.push_back(link);
    }
    for (std::uint32_t u = 0; u < program_.uploads.size(); ++u) add_send(u);
  }

  // add_send makes an upload part of the step that makes its tensor, with that tensor's tiles.
  void add_send(std::uint32_t u) {
    const model::TensorId tensor = program_.uploads[u].tensor;
    Step& step = program_.steps[made(tensor)];
    Part send{u, place(tensor).elements.per_unit, elements(tensor)};
    if (step.kind == StepKind::kInput) {
      step.units = std::max(step.units, send.total);
      send.per_unit = 1;
    }
    step.sends.push_back(send);
  }

  // With pads the edges of tasks should fall on the edges of sealed chunks, since a chunk is opened
  // as a whole, which costs more than all else; a third of the threads with whole chunks are faster
  // than all of them with parts.
  void cut(Step& step) const {
    const std::size_t part = base::div_up(step.units * step.unit_elements, 2 * options_.threads);
    const std::size_t tile = std::clamp(part, kSmallTile, kTileElements);
    step.tile_units = std::max<std::size_t>(1, tile / step.unit_elements);
    if (step.kind == StepKind::kOperator && !step.whole) {
      step.tile_units = std::max(step.tile_units, operators_[step.head.index]->grain());
    }
    step.task_units = step.tile_units;
    if (step.kind != StepKind::kRemoteLinear || !options_.blinded) return;
    const std::size_t chunk = vault::Pads::chunk_words(program_.links[step.link].field);
    const std::size_t aligned = std::lcm(step.unit_elements, chunk) / step.unit_elements;
    const std::size_t share = step.units / (2 * options_.threads);
    const bool enough = aligned * options_.threads <= 3 * step.units;
    step.task_units = enough ? aligned : std::max(step.tile_units, share);
  }

  // lifetimes says from when to when each root tensor is needed in trusted memory.
  [[nodiscard]] std::vector<Lifetime> lifetimes() const {
    std::vector<Lifetime> life(plan_.tensors.size());
    for (model::TensorId t = 0; t < life.size(); ++t) life[t].first = life[t].last = made_[t];
    const auto keep = [&](std::span<const model::TensorId> tensors, std::uint32_t until) {
      for (const model::TensorId t : tensors) {
        life[root_[t]].last = std::max(life[root_[t]].last, until);
      }
    };
    const std::uint32_t end = last_step() + 1;
    // Inputs stay: work lost with a device starts again from them. Constants are written once.
    keep(plan_.inputs, end);
    for (const model::Node& node : plan_.nodes) {
      if (std::holds_alternative<model::Constant>(node.op)) keep({&node.output, 1}, end);
    }
    for (const model::Output& output : plan_.outputs) keep({&output.tensor, 1}, end);
    for (std::uint32_t i = 1; i < program_.steps.size(); ++i) {
      const Step& step = program_.steps[i];
      for (const Part& part : step.tail) keep(plan_.nodes[part.index].inputs, i);
      // A remote layer's input is needed when it is sent, and again only where the check comes
      // later.
      if (step.kind == StepKind::kRemoteLinear && !options_.keep_inputs) continue;
      keep(plan_.nodes[step.head.index].inputs, i);
    }
    return life;
  }

  // What a step makes tile by tile and nobody needs after it passes.
  void place_tensors() {
    std::vector<Lifetime> life = lifetimes();
    for (std::uint32_t i = 1; i < program_.steps.size(); ++i) {
      const Step& step = program_.steps[i];
      std::size_t used = 0;
      const auto pass = [&](const Part& part) {
        const model::TensorId t = plan_.nodes[part.index].output;
        if (life[t].last != i) return;
        Place& place = program_.places[t];
        const std::size_t tile = step.largest_tile(place.elements);
        place.passing = true;
        place.offset = used;
        place.image_bytes = base::round_up(tile * element_bytes(plan_.tensors[t].dtype), 64);
        used += place.image_bytes * options_.micro_batch;
      };
      if (!step.whole) pass(step.head);
      for (const Part& part : step.tail) pass(part);
      program_.passing_bytes = std::max(program_.passing_bytes, used);
    }
    for (model::TensorId t = 0; t < life.size(); ++t) {
      if (root_[t] != t || program_.places[t].passing) continue;
      program_.places[t].image_bytes = bytes(t);
      life[t].bytes = options_.micro_batch * bytes(t);
    }
    const MemoryPlan placed = plan_memory(life);
    for (model::TensorId t = 0; t < life.size(); ++t) {
      if (!program_.places[t].passing) program_.places[t].offset = placed.offsets[t];
    }
    program_.arena_bytes = placed.bytes;
  }

  void place_slots() {
    std::vector<Lifetime> life;
    std::vector<std::size_t*> offsets;
    const auto add = [&](std::size_t image_bytes, model::TensorId tensor, std::uint32_t last,
                         std::size_t& offset) {
      life.push_back({options_.micro_batch * image_bytes, made(tensor), last});
      offsets.push_back(&offset);
    };
    for (Upload& upload : program_.uploads) {
      // Links are numbered in the order of their steps.
      const Link& last = program_.links[upload.links.back()];
      add(upload.image_bytes, upload.tensor, last.step, upload.slot_offset);
    }
    for (Link& link : program_.links) {
      add(link.image_bytes, program_.uploads[link.upload].tensor, link.step, link.slot_offset);
    }
    const MemoryPlan placed = plan_memory(life);
    for (std::size_t i = 0; i < offsets.size(); ++i) *offsets[i] = placed.offsets[i];
    program_.slot_bytes = placed.bytes;
  }

  const model::Plan& plan_;
  const Placement& placement_;
  const Operators& operators_;
  const ProgramOptions& options_;
  std::vector<std::uint32_t> order_;   // nodes in the order of steps; kNever once joined to a step
  std::vector<std::uint32_t> made_;    // by root tensor
  std::vector<model::TensorId> root_;  // by tensor: whose memory it uses (Reshape shares)
  bool banded_ = false;
  Program program_;
};

}  // namespace

Program make_program(const model::Plan& plan, const Placement& placement,
                     const Operators& operators, const ProgramOptions& options) {
  return Compiler(plan, placement, operators, options).compile();
}

}  // namespace slalom::runtime
