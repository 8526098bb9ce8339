// SPDX-License-Identifier: Apache-2.0
#include "runtime/program.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <variant>

#include "base/assert.h"
#include "runtime/memory_plan.h"

namespace slalom::runtime {
namespace {

constexpr std::uint32_t kNever = ~0U;

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
    find_passing();
    place_tensors();
    place_slots();
    return std::move(program_);
  }

 private:
  [[nodiscard]] std::size_t elements(model::TensorId t) const {
    return plan_.tensors[t].shape.elements();
  }
  [[nodiscard]] model::TensorId root(model::TensorId t) const { return program_.root[t]; }
  // made is the step in which a tensor's memory is written; 0: inputs and constants.
  [[nodiscard]] std::uint32_t made(model::TensorId t) const { return made_[root(t)]; }

  void find_roots() {
    program_.root.resize(plan_.tensors.size());
    std::iota(program_.root.begin(), program_.root.end(), model::TensorId{0});
    for (const model::Node& node : plan_.nodes) {
      if (std::holds_alternative<model::Reshape>(node.op)) {
        program_.root[node.output] = program_.root[node.inputs[0]];
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
    std::stable_sort(order_.begin(), order_.end(), [&](std::uint32_t a, std::uint32_t b) {
      return depth[plan_.nodes[a].output] < depth[plan_.nodes[b].output];
    });
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
      chain_.clear();
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
    made_[node.output] = static_cast<std::uint32_t>(program_.steps.size());
    chain_.push_back({node.output, step.unit_elements});
    banded_ = false;
    program_.steps.push_back(std::move(step));
  }

  // Made is a tensor of the step under construction with its elements per unit.
  struct Made {
    model::TensorId tensor = 0;
    std::size_t per_unit = 0;
  };
  [[nodiscard]] std::optional<std::size_t> in_chain(model::TensorId tensor) const {
    for (const Made& m : chain_) {
      if (root(m.tensor) == root(tensor)) return m.per_unit;
    }
    return std::nullopt;
  }

  // join adds node n to the tail of the step under construction if it can run tile by tile there.
  bool join(std::uint32_t n) {
    const Operator* op = operators_[n].get();
    if (op == nullptr) return false;
    const model::Node& node = plan_.nodes[n];
    std::optional<std::size_t> per_unit;
    for (const model::TensorId in : node.inputs) {
      const auto here = in_chain(in);
      if (!here) {
        if (made(in) == kNever) return false;
        continue;
      }
      if (per_unit && *per_unit != *here) return false;
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
    step.head.per_unit *= times;
    for (Part& part : step.tail) part.per_unit *= times;
    for (Made& m : chain_) m.per_unit *= times;
    banded_ = true;
    append(n, 1, elements(node.output) / op.units());
    return true;
  }

  void append(std::uint32_t n, std::size_t op_units, std::size_t per_unit) {
    const model::Node& node = plan_.nodes[n];
    program_.steps.back().tail.push_back({n, op_units, operators_[n]->units()});
    made_[node.output] = static_cast<std::uint32_t>(program_.steps.size() - 1);
    chain_.push_back({node.output, per_unit});
  }

  void make_links() {
    std::vector<std::uint32_t> upload_of(plan_.tensors.size(), kNever);
    for (Step& step : program_.steps) {
      if (step.kind != StepKind::kRemoteLinear) continue;
      const model::Node& node = plan_.nodes[step.head.index];
      const auto& linear = std::get<model::Linear>(node.op);
      std::uint32_t& upload = upload_of[node.inputs[0]];
      if (upload == kNever) {
        upload = static_cast<std::uint32_t>(program_.uploads.size());
        Upload u;
        u.tensor = node.inputs[0];
        u.field = *linear.field;
        u.words = linear.in().elements();
        u.image_bytes = u.words * (options_.blinded ? field::word_bytes(u.field) : 1);
        program_.uploads.push_back(std::move(u));
      }
      step.link = static_cast<std::uint32_t>(program_.links.size());
      program_.uploads[upload].links.push_back(step.link);
      Link link;
      link.node = step.head.index;
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
    Part send{u, 0, elements(tensor)};
    if (step.kind == StepKind::kInput) {
      step.units = std::max(step.units, send.total);
      send.per_unit = 1;
    } else if (root(plan_.nodes[step.head.index].output) == root(tensor)) {
      send.per_unit = step.unit_elements;
    } else {
      for (const Part& part : step.tail) {
        if (root(plan_.nodes[part.index].output) != root(tensor)) continue;
        send.per_unit = part.per_unit * (send.total / part.total);
      }
    }
    step.sends.push_back(send);
  }

  // A tensor passes if every reader is an operator in the tail of the step that makes it, or a
  // remote layer, whose upload is part of that step, and nobody needs it afterwards.
  void find_passing() {
    program_.passing.resize(plan_.tensors.size());
    for (std::uint32_t i = 1; i < program_.steps.size(); ++i) {
      const Step& step = program_.steps[i];
      if (!step.whole) start_passing(step.head.index, step.unit_elements);
      for (const Part& part : step.tail) {
        const std::size_t out = elements(plan_.nodes[part.index].output);
        start_passing(part.index, part.per_unit * (out / part.total));
      }
    }
    for (const model::Output& output : plan_.outputs) stay(output.tensor);
    for (std::uint32_t i = 1; i < program_.steps.size(); ++i) {
      const Step& step = program_.steps[i];
      for (const Part& part : step.tail) {
        for (const model::TensorId in : plan_.nodes[part.index].inputs) {
          if (made(in) != i) stay(in);
        }
      }
      if (step.kind == StepKind::kRemoteLinear && !options_.keep_inputs) continue;
      for (const model::TensorId in : plan_.nodes[step.head.index].inputs) stay(in);
    }
    for (model::TensorId t = 0; t < plan_.tensors.size(); ++t) {
      program_.passing[t] = program_.passing[root(t)];
    }
  }
  void start_passing(std::uint32_t node, std::size_t per_unit) {
    const model::TensorId t = plan_.nodes[node].output;
    program_.passing[t] = {true, {t, per_unit, elements(t)}};
  }
  void stay(model::TensorId t) { program_.passing[root(t)].passing = false; }

  [[nodiscard]] std::uint32_t end() const {
    return static_cast<std::uint32_t>(program_.steps.size());
  }

  void place_tensors() {
    std::vector<Lifetime> life(plan_.tensors.size());
    const auto keep = [&](model::TensorId tensor, std::uint32_t until) {
      Lifetime& l = life[root(tensor)];
      l.last = std::max(l.last, until);
    };
    for (model::TensorId t = 0; t < plan_.tensors.size(); ++t) {
      if (root(t) != t || program_.passing[t].passing) continue;
      life[t].bytes = options_.micro_batch * elements(t) * element_bytes(plan_.tensors[t].dtype);
      life[t].first = life[t].last = made_[t];
    }
    // Inputs stay: work lost with a device starts again from them. Constants are written once.
    for (const model::TensorId t : plan_.inputs) keep(t, end());
    for (const model::Node& node : plan_.nodes) {
      if (std::holds_alternative<model::Constant>(node.op)) keep(node.output, end());
    }
    for (const model::Output& output : plan_.outputs) keep(output.tensor, end());
    for (std::uint32_t i = 1; i < program_.steps.size(); ++i) {
      const Step& step = program_.steps[i];
      for (const Part& part : step.tail) {
        for (const model::TensorId in : plan_.nodes[part.index].inputs) keep(in, i);
      }
      // A remote layer's input is needed when it is sent, and again only where the check comes
      // later.
      if (step.kind == StepKind::kRemoteLinear && !options_.keep_inputs) continue;
      for (const model::TensorId in : plan_.nodes[step.head.index].inputs) keep(in, i);
    }
    const MemoryPlan placed = plan_memory(life);
    program_.arena_offset.resize(plan_.tensors.size());
    for (model::TensorId t = 0; t < plan_.tensors.size(); ++t) {
      program_.arena_offset[t] = placed.offsets[root(t)];
    }
    program_.arena_bytes = placed.bytes;
  }

  void place_slots() {
    std::vector<Lifetime> life;
    std::vector<std::uint32_t> answered(program_.links.size());
    for (std::uint32_t i = 0; i < program_.steps.size(); ++i) {
      const Step& step = program_.steps[i];
      if (step.kind == StepKind::kRemoteLinear) answered[step.link] = i;
    }
    for (const Upload& upload : program_.uploads) {
      Lifetime l{options_.micro_batch * upload.image_bytes, made(upload.tensor), 0};
      for (const std::uint32_t link : upload.links) l.last = std::max(l.last, answered[link]);
      life.push_back(l);
    }
    for (std::uint32_t i = 0; i < program_.links.size(); ++i) {
      const Link& link = program_.links[i];
      life.push_back({options_.micro_batch * link.image_bytes,
                      made(program_.uploads[link.upload].tensor), answered[i]});
    }
    const MemoryPlan placed = plan_memory(life);
    for (std::size_t u = 0; u < program_.uploads.size(); ++u) {
      program_.uploads[u].slot_offset = placed.offsets[u];
    }
    for (std::size_t i = 0; i < program_.links.size(); ++i) {
      program_.links[i].slot_offset = placed.offsets[program_.uploads.size() + i];
    }
    program_.slot_bytes = placed.bytes;
  }

  const model::Plan& plan_;
  const Placement& placement_;
  const Operators& operators_;
  const ProgramOptions& options_;
  std::vector<std::uint32_t> order_;  // nodes in the order of steps; kNever once joined to a step
  std::vector<std::uint32_t> made_;   // by root tensor
  std::vector<Made> chain_;           // of the step under construction
  bool banded_ = false;
  Program program_;
};

}  // namespace

Program make_program(const model::Plan& plan, const Placement& placement,
                     const Operators& operators, const ProgramOptions& options) {
  return Compiler(plan, placement, operators, options).compile();
}

}  // namespace slalom::runtime
