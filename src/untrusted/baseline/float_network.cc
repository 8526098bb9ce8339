// SPDX-License-Identifier: Apache-2.0
#include "baseline/float_network.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <utility>

#include "baseline/float_ops.h"
#include "runtime/memory_plan.h"

namespace slalom::baseline {
namespace {

using dnnl::memory;

struct FreeMemory {
  void operator()(float* p) const noexcept { std::free(p); }
};

// FloatLayer is one stage of a Linear with real weights.
struct FloatLayer {
  model::Conv conv;
  std::vector<float> weights;
  std::vector<float> bias;
  bool clamped = false;
  Range range{};
};

memory::dim dim(std::size_t n) { return static_cast<memory::dim>(n); }

// offsets are, for each output channel, the sum that the stages make of an input whose every code
// is 1 (padding taps hold the zero point and count as well).
std::vector<double> offsets(const model::Linear& linear) {
  std::vector<double> in(linear.in().c, 1.0);
  for (const model::ConvStage& stage : linear.stages) {
    const model::Conv& c = stage.conv;
    std::vector<double> out(c.out.c, 0.0);
    for (std::size_t o = 0; o < c.out.c; ++o) {
      for (std::size_t t = 0; t < c.terms(); ++t) {
        const std::size_t channel = o / c.group_out() * c.group_in() + t % c.group_in();
        out[o] += stage.weights[o * c.terms() + t] * in[channel];
      }
    }
    in = std::move(out);
  }
  return in;
}

// real_layers turns a Linear into layers on real values. With codes c = x / s_in + z_in - 128 the
// real output is  s_out * M[o] * (sum w * x / s_in + (z_in - 128) * offsets[o] + bias[o])
// (model/plan.h, Conv, Requant). With a table the output is left in codes before the table.
std::vector<FloatLayer> real_layers(const model::Linear& linear, const model::TensorInfo& in,
                                    const model::TensorInfo& out) {
  const model::Requant& q = linear.requant;
  const bool table = !q.table.empty();
  const float unit = table ? 1.0F : out.scale;
  const std::vector<double> ones = offsets(linear);
  std::vector<FloatLayer> layers;
  for (std::size_t s = 0; s < linear.stages.size(); ++s) {
    const model::ConvStage& stage = linear.stages[s];
    const bool last = s + 1 == linear.stages.size();
    FloatLayer layer{.conv = stage.conv};
    layer.weights.assign(stage.weights.begin(), stage.weights.end());
    layer.bias.assign(stage.conv.out.c, 0.0F);
    for (std::size_t o = 0; last && o < stage.conv.out.c; ++o) {
      const float m = unit * q.multiplier[q.multiplier.size() == 1 ? 0 : o];
      for (std::size_t t = 0; t < stage.conv.terms(); ++t) {
        layer.weights[o * stage.conv.terms() + t] *= m / in.scale;
      }
      layer.bias[o] = static_cast<float>(m * ((in.zero_point - 128) * ones[o] + linear.bias[o]));
      if (table) layer.bias[o] += static_cast<float>(q.zero_point);
    }
    layer.clamped = last;
    layer.range = table ? Range{static_cast<float>(q.lo), static_cast<float>(q.hi)}
                        : range_of(out, q.zero_point, q.lo, q.hi);
    layers.push_back(std::move(layer));
  }
  return layers;
}

dnnl::primitive_attr attributes(const FloatLayer& layer) {
  dnnl::primitive_attr attr;
  if (layer.clamped) {
    dnnl::post_ops ops;
    ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_clip, layer.range.low, layer.range.high);
    attr.set_post_ops(ops);
  }
  return attr;
}

// weights_of reorders the weights once into the layout that the primitive asks for.
memory weights_of(const FloatLayer& layer, const memory::desc& plain, const memory::desc& wanted,
                  const dnnl::engine& engine) {
  memory from(plain, engine, const_cast<float*>(layer.weights.data()));
  memory to(wanted, engine);
  dnnl::stream stream(engine);
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
  return to;
}

template <class PrimitiveDesc>
std::function<void()> executed(const PrimitiveDesc& pd, const FloatLayer& layer,
                               const memory::desc& plain, const dnnl::engine& engine,
                               const float* x, float* y) {
  memory bias(pd.bias_desc(), engine);
  std::copy(layer.bias.begin(), layer.bias.end(), static_cast<float*>(bias.get_data_handle()));
  const std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, memory(pd.src_desc(), engine, const_cast<float*>(x))},
      {DNNL_ARG_WEIGHTS, weights_of(layer, plain, pd.weights_desc(), engine)},
      {DNNL_ARG_BIAS, bias},
      {DNNL_ARG_DST, memory(pd.dst_desc(), engine, y)}};
  return [primitive = dnnl::primitive(pd), arguments, stream = dnnl::stream(engine)]() mutable {
    primitive.execute(stream, arguments);
    stream.wait();
  };
}

std::function<void()> make_dense(const FloatLayer& layer, std::size_t batch,
                                 const dnnl::engine& engine, const float* x, float* y) {
  constexpr auto kF32 = memory::data_type::f32;
  const memory::dim n = dim(batch);
  const memory::dim in = dim(layer.conv.in.c);
  const memory::dim out = dim(layer.conv.out.c);
  const dnnl::inner_product_forward::desc desc(
      dnnl::prop_kind::forward_inference, memory::desc({n, in}, kF32, memory::format_tag::ab),
      memory::desc({out, in}, kF32, memory::format_tag::any),
      memory::desc({out}, kF32, memory::format_tag::a),
      memory::desc({n, out}, kF32, memory::format_tag::ab));
  const dnnl::inner_product_forward::primitive_desc pd(desc, attributes(layer), engine);
  return executed(pd, layer, memory::desc({out, in}, kF32, memory::format_tag::ab), engine, x, y);
}

std::function<void()> make_conv(const FloatLayer& layer, std::size_t batch,
                                const dnnl::engine& engine, const float* x, float* y) {
  constexpr auto kF32 = memory::data_type::f32;
  const model::Conv& c = layer.conv;
  const model::Window& w = c.window;
  const memory::dims kernel{dim(w.kernel_h), dim(w.kernel_w)};
  // The plan keeps [out][kernel_h][kernel_w][in of a group].
  const bool grouped = c.groups > 1;
  const memory::dims shape =
      grouped
          ? memory::dims{dim(c.groups), dim(c.group_out()), dim(c.group_in()), kernel[0], kernel[1]}
          : memory::dims{dim(c.out.c), dim(c.in.c), kernel[0], kernel[1]};
  const auto plain = grouped ? memory::format_tag::gohwi : memory::format_tag::ohwi;
  const dnnl::convolution_forward::desc desc(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_auto,
      memory::desc({dim(batch), dim(c.in.c), dim(c.in.h), dim(c.in.w)}, kF32,
                   memory::format_tag::nhwc),
      memory::desc(shape, kF32, memory::format_tag::any),
      memory::desc({dim(c.out.c)}, kF32, memory::format_tag::a),
      memory::desc({dim(batch), dim(c.out.c), dim(c.out.h), dim(c.out.w)}, kF32,
                   memory::format_tag::nhwc),
      {dim(w.stride_h), dim(w.stride_w)}, {dim(w.dilation_h) - 1, dim(w.dilation_w) - 1},
      {dim(w.pad_top), dim(w.pad_left)}, {dim(w.pad_bottom), dim(w.pad_right)});
  const dnnl::convolution_forward::primitive_desc pd(desc, attributes(layer), engine);
  return executed(pd, layer, memory::desc(shape, kF32, plain), engine, x, y);
}

bool dense(const model::Conv& c) {
  return c.in.positions() == 1 && c.taps() == 1 && c.groups == 1 && c.out.positions() == 1;
}

}  // namespace

struct FloatNetwork::Memory {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::unique_ptr<float, FreeMemory> block;
  std::vector<float*> tensors;
  std::vector<float> between;  // what the first stage of a separable pair gives the second
};

FloatNetwork::FloatNetwork(const model::Plan& plan, std::size_t batch, std::size_t threads)
    : plan_(plan), batch_(batch), threads_(threads), memory_(std::make_unique<Memory>()) {
  omp_set_num_threads(static_cast<int>(threads_));
  place_tensors();
  for (const model::Node& node : plan_.nodes) add_step(node);
}

FloatNetwork::~FloatNetwork() = default;

// place_tensors lets tensors share memory as soon as their last reader has run. Constants, inputs
// and outputs keep theirs.
void FloatNetwork::place_tensors() {
  const auto end = static_cast<std::uint32_t>(plan_.nodes.size());
  std::vector<runtime::Lifetime> lives(plan_.tensors.size());
  for (std::size_t t = 0; t < lives.size(); ++t) {
    lives[t].bytes = batch_ * plan_.tensors[t].shape.elements() * sizeof(float);
  }
  for (std::uint32_t n = 0; n < end; ++n) {
    const model::Node& node = plan_.nodes[n];
    const bool constant = std::holds_alternative<model::Constant>(node.op);
    lives[node.output].first = constant ? 0 : n;
    lives[node.output].last = constant ? end : std::max(lives[node.output].last, n);
    for (const model::TensorId input : node.inputs) {
      lives[input].last = std::max(lives[input].last, n);
    }
    const auto* linear = std::get_if<model::Linear>(&node.op);
    if (linear != nullptr && linear->stages.size() == 2) {
      const std::size_t values = batch_ * linear->stages[0].conv.out.elements();
      memory_->between.resize(std::max(memory_->between.size(), values));
    }
  }
  for (const model::Output& output : plan_.outputs) lives[output.tensor].last = end;
  const runtime::MemoryPlan placed = runtime::plan_memory(lives);
  constexpr std::size_t kLine = runtime::kMemoryAlignment;
  memory_->block.reset(
      static_cast<float*>(std::aligned_alloc(kLine, (placed.bytes + 2 * kLine) / kLine * kLine)));
  if (memory_->block == nullptr) throw std::bad_alloc();
  for (const std::size_t offset : placed.offsets) {
    memory_->tensors.push_back(memory_->block.get() + offset / sizeof(float));
  }
}

void FloatNetwork::add_step(const model::Node& node) {
  float* y = memory_->tensors[node.output];
  const model::TensorInfo& out = plan_.tensors[node.output];
  if (const auto* constant = std::get_if<model::Constant>(&node.op)) {
    for (std::size_t i = 0; i < batch_ * constant->codes.size(); ++i) {
      const int code = constant->codes[i % constant->codes.size()];
      y[i] = out.scale * static_cast<float>(code - out.zero_point);
    }
    return;
  }
  const auto* linear = std::get_if<model::Linear>(&node.op);
  if (linear == nullptr) {
    std::vector<float*> inputs;
    for (const model::TensorId input : node.inputs) inputs.push_back(memory_->tensors[input]);
    steps_.push_back(make_op({plan_, node, inputs, y, batch_}));
    return;
  }
  const float* x = memory_->tensors[node.inputs[0]];
  const std::vector<FloatLayer> layers = real_layers(*linear, plan_.tensors[node.inputs[0]], out);
  for (std::size_t s = 0; s < layers.size(); ++s) {
    float* to = s + 1 == layers.size() ? y : memory_->between.data();
    const auto make = dense(layers[s].conv) ? make_dense : make_conv;
    steps_.push_back(make(layers[s], batch_, memory_->engine, x, to));
    x = to;
  }
  if (linear->requant.table.empty()) return;
  const std::size_t n = batch_ * out.shape.elements();
  steps_.push_back([linear, y, n, &out] {
    constexpr std::size_t kBlock = 4096;
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < n; i += kBlock) {
      interpolate(linear->requant.table, out.scale, static_cast<float>(out.zero_point), y + i,
                  std::min(kBlock, n - i));
    }
  });
}

void FloatNetwork::run(std::span<const std::uint8_t> codes) {
  omp_set_num_threads(static_cast<int>(threads_));
  const std::size_t image_bytes = codes.size() / batch_;
  std::size_t at = 0;
  for (const model::TensorId input : plan_.inputs) {
    const model::TensorInfo& info = plan_.tensors[input];
    const std::size_t n = info.shape.elements();
    for (std::size_t b = 0; b < batch_; ++b) {
      const std::uint8_t* from = codes.data() + b * image_bytes + at;
      float* to = memory_->tensors[input] + b * n;
      for (std::size_t i = 0; i < n; ++i) {
        to[i] = info.scale * static_cast<float>(from[i] - info.zero_point);
      }
    }
    at += n;
  }
  for (const auto& step : steps_) step();
}

std::span<const float> FloatNetwork::values(model::TensorId tensor) const {
  return {memory_->tensors[tensor], batch_ * plan_.tensors[tensor].shape.elements()};
}

}  // namespace slalom::baseline
