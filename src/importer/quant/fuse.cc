// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/fuse.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace slalom::importer {
namespace {

// Fuser edits a Net; `dead` marks nodes that are to be dropped.
class Fuser {
 public:
  explicit Fuser(Net& net) : net_(net), dead_(net.nodes.size(), false) { refresh(); }

  void run(bool fuse_separable) {
    each([this](std::size_t i) { swap_pool(i); });
    each([this](std::size_t i) { join_unaries(i); });
    each([this](std::size_t i) { fuse_unary(i); });
    if (fuse_separable) each([this](std::size_t i) { join_separable(i); });
    sweep();
    reconcile();
  }

 private:
  void refresh() {
    readers_ = net_.readers();
    producers_ = net_.producers();
    for (std::size_t i = 0; i < dead_.size(); ++i) {
      if (!dead_[i]) continue;
      for (const TensorIndex id : net_.nodes[i].inputs) --readers_[id];
      if (producers_[net_.nodes[i].output] == i) producers_[net_.nodes[i].output] = kNoNode;
    }
    for (std::size_t i = 0; i < dead_.size(); ++i) {
      if (!dead_[i]) producers_[net_.nodes[i].output] = i;
    }
  }

  template <class F>
  void each(F&& f) {
    for (std::size_t i = 0; i < net_.nodes.size(); ++i) {
      if (!dead_[i]) f(i);
    }
    refresh();
  }

  [[nodiscard]] NetTensor& tensor(TensorIndex id) { return net_.tensors[id]; }
  // maker is the node that writes a tensor which only one other node reads, or kNoNode.
  [[nodiscard]] std::size_t sole_maker(TensorIndex id) const {
    return readers_[id] == 1 ? producers_[id] : kNoNode;
  }

  // x -> MaxPool -> p -> clamp -> u becomes x -> clamp -> x' -> MaxPool -> u.
  void swap_pool(std::size_t i) {
    auto* unary = std::get_if<NetUnary>(&net_.nodes[i].op);
    if (unary == nullptr || !unary->function.clamp || unary->function.identity()) return;
    const std::size_t pool = sole_maker(net_.nodes[i].inputs[0]);
    if (pool == kNoNode || !std::holds_alternative<NetMaxPool>(net_.nodes[pool].op)) return;
    const TensorIndex x = net_.nodes[pool].inputs[0];
    if (sole_maker(x) == kNoNode || tensor(x).fixed || tensor(net_.nodes[i].inputs[0]).fixed) {
      return;
    }
    NetTensor clamped{.name = tensor(x).name + "/clamped",
                      .shape = tensor(x).shape,
                      .value = kNoValue,
                      .view = {},
                      .fixed = std::nullopt};
    net_.tensors.push_back(std::move(clamped));
    const auto middle = static_cast<TensorIndex>(net_.tensors.size() - 1);
    std::swap(net_.nodes[pool].op, net_.nodes[i].op);
    std::swap(net_.nodes[pool].name, net_.nodes[i].name);
    std::swap(net_.nodes[pool].origin, net_.nodes[i].origin);
    net_.nodes[pool].output = middle;
    net_.nodes[i].inputs[0] = middle;
    refresh();
  }

  void join_unaries(std::size_t i) {
    auto* second = std::get_if<NetUnary>(&net_.nodes[i].op);
    if (second == nullptr) return;
    const TensorIndex between = net_.nodes[i].inputs[0];
    const std::size_t maker = sole_maker(between);
    if (maker == kNoNode || tensor(between).fixed) return;
    const auto* first = std::get_if<NetUnary>(&net_.nodes[maker].op);
    if (first == nullptr) return;
    second->function = then(first->function, second->function);
    net_.nodes[i].inputs = net_.nodes[maker].inputs;
    dead_[maker] = true;
    refresh();
  }

  // absorb makes node i's function part of `op`; false if it cannot be.
  bool absorb(NetLinear& linear, const Unary& f, TensorIndex between, TensorIndex after) {
    const std::optional<Quant>& inner = tensor(between).fixed;
    const std::optional<Quant>& outer = tensor(after).fixed;
    const bool same_codes = !inner || !outer || *inner == *outer;
    if (f.clamp && linear.post.clamp && same_codes) {
      if (inner && !outer) tensor(after).fixed = inner;
      linear.post = then(linear.post, f);
      return true;
    }
    if (!linear.post.clamp) {
      if (inner) return false;
      linear.post = then(linear.post, f);
      return true;
    }
    // The codes before the table are those of the tensor in between.
    linear.before_post = tensor(between).value;
    linear.fixed_before_post = inner;
    const Unary whole = then(linear.post, f);
    linear.post = {.clamp = false, .f = [whole](double x) { return whole(x); }};
    return true;
  }
  template <class Op>
  bool absorb_clamp(Op& op, const Unary& f, TensorIndex between, TensorIndex after) {
    const std::optional<Quant>& inner = tensor(between).fixed;
    const std::optional<Quant>& outer = tensor(after).fixed;
    if (!f.clamp || (inner && outer && !(*inner == *outer))) return false;
    if (inner && !outer) tensor(after).fixed = inner;
    op.post = then(op.post, f);
    return true;
  }

  void fuse_unary(std::size_t i) {
    auto* unary = std::get_if<NetUnary>(&net_.nodes[i].op);
    if (unary == nullptr) return;
    const TensorIndex between = net_.nodes[i].inputs[0];
    const TensorIndex after = net_.nodes[i].output;
    const std::size_t maker = sole_maker(between);
    if (maker == kNoNode) return;
    NetNode& node = net_.nodes[maker];
    const Unary& f = unary->function;
    bool done = false;
    if (auto* linear = std::get_if<NetLinear>(&node.op)) {
      done = absorb(*linear, f, between, after);
    } else if (auto* add = std::get_if<NetAdd>(&node.op)) {
      done = absorb_clamp(*add, f, between, after);
    } else if (auto* mul = std::get_if<NetMul>(&node.op)) {
      done = absorb_clamp(*mul, f, between, after);
    } else if (auto* prelu = std::get_if<NetPrelu>(&node.op)) {
      done = absorb_clamp(*prelu, f, between, after);
    } else if (auto* pool = std::get_if<NetAveragePool>(&node.op)) {
      done = absorb_clamp(*pool, f, between, after);
    } else if (auto* lrn = std::get_if<NetLrn>(&node.op)) {
      done = absorb_clamp(*lrn, f, between, after);
    }
    if (!done) return;
    node.output = after;
    dead_[i] = true;
    refresh();
  }

  void join_separable(std::size_t i) {
    auto* second = std::get_if<NetLinear>(&net_.nodes[i].op);
    if (second == nullptr || second->stages.size() != 1 || second->fixed) return;
    const model::Conv& point = second->stages[0].conv;
    if (point.groups != 1 || point.window != model::Window{}) return;
    const TensorIndex between = net_.nodes[i].inputs[0];
    const std::size_t maker = sole_maker(between);
    if (maker == kNoNode || tensor(between).fixed) return;
    auto* first = std::get_if<NetLinear>(&net_.nodes[maker].op);
    if (first == nullptr || first->stages.size() != 1 || first->fixed || !first->post.identity()) {
      return;
    }
    const model::Conv& depth = first->stages[0].conv;
    if (!depth.depthwise() || depth.out.c != depth.in.c || depth.taps() == 1) return;
    second->stages.insert(second->stages.begin(), std::move(first->stages[0]));
    second->between = between;
    net_.nodes[i].inputs = net_.nodes[maker].inputs;
    dead_[maker] = true;
    refresh();
  }

  // sweep drops dead nodes and those whose result nobody reads.
  void sweep() {
    std::vector<bool> wanted(net_.tensors.size(), false);
    for (const NetOutput& output : net_.outputs) wanted[output.tensor] = true;
    std::vector<NetNode> kept;
    for (std::size_t i = net_.nodes.size(); i-- > 0;) {
      NetNode& node = net_.nodes[i];
      if (dead_[i] || !wanted[node.output]) continue;
      for (const TensorIndex id : node.inputs) wanted[id] = true;
      kept.push_back(std::move(node));
    }
    std::reverse(kept.begin(), kept.end());
    net_.nodes = std::move(kept);
    dead_.assign(net_.nodes.size(), false);
    refresh();
  }

  // reconcile separates tensors that an operator would force to share a scale although both have
  // one of their own.
  void reconcile() {
    std::vector<NetNode> nodes;
    for (NetNode& node : net_.nodes) {
      if (keeps_codes(node.op)) {
        const std::optional<Quant> in = tensor(node.inputs[0]).fixed;
        const std::optional<Quant> out = tensor(node.output).fixed;
        if (in && out && !(*in == *out)) {
          NetTensor copy = tensor(node.inputs[0]);
          copy.name += "/requantised";
          copy.value = kNoValue;
          copy.fixed = out;
          net_.tensors.push_back(std::move(copy));
          const auto id = static_cast<TensorIndex>(net_.tensors.size() - 1);
          nodes.push_back({.name = net_.tensors[id].name,
                           .origin = node.origin,
                           .inputs = {node.inputs[0]},
                           .output = id,
                           .op = NetUnary{}});
          node.inputs[0] = id;
        } else if (in && !out) {
          tensor(node.output).fixed = in;
        }
      }
      nodes.push_back(std::move(node));
    }
    net_.nodes = std::move(nodes);
  }

  Net& net_;
  std::vector<bool> dead_;
  std::vector<std::size_t> readers_;
  std::vector<std::size_t> producers_;
};

}  // namespace

void fuse(Net& net, bool fuse_separable) { Fuser(net).run(fuse_separable); }

}  // namespace slalom::importer
