// SPDX-License-Identifier: Apache-2.0
#include "linear_onednn.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <cstdint>

extern "C" void omp_set_num_threads(int);

namespace slalom::bench {

struct OneDnnNetwork::Layer {
  dnnl::primitive primitive;
  std::unordered_map<int, dnnl::memory> arguments;
  dnnl::stream stream;
  std::size_t count = 1;
};

namespace {

using dnnl::memory;

struct Types {
  memory::data_type src, weights, dst;
};

Types types(OneDnnNetwork::Kind kind) {
  using T = memory::data_type;
  if (kind == OneDnnNetwork::Kind::kF32) return {T::f32, T::f32, T::f32};
  return {T::u8, T::s8, kind == OneDnnNetwork::Kind::kU8 ? T::u8 : T::s32};
}

dnnl::primitive_attr attributes(OneDnnNetwork::Kind kind) {
  dnnl::primitive_attr attr;
  if (kind == OneDnnNetwork::Kind::kU8) attr.set_output_scales(0, {0.001F});
  return attr;
}

template <class Descriptor>
void fill_in(OneDnnNetwork::Kind kind, const Descriptor& pd, const dnnl::engine& engine,
             dnnl::primitive& primitive, std::unordered_map<int, memory>& arguments) {
  primitive = dnnl::primitive(pd);
  const auto make = [&](const memory::desc& desc) {
    memory out(desc, engine);
    if (kind == OneDnnNetwork::Kind::kF32) {  // bytes would make floats that are slow to compute
      auto* values = static_cast<float*>(out.get_data_handle());
      for (std::size_t i = 0; i < desc.get_size() / sizeof(float); ++i) {
        values[i] = static_cast<float>(i % 61) / 64.0F;
      }
    } else {
      auto* bytes = static_cast<std::uint8_t*>(out.get_data_handle());
      for (std::size_t i = 0; i < desc.get_size(); ++i)
        bytes[i] = static_cast<std::uint8_t>(i % 61);
    }
    return out;
  };
  arguments = {{DNNL_ARG_SRC, make(pd.src_desc())},
               {DNNL_ARG_WEIGHTS, make(pd.weights_desc())},
               {DNNL_ARG_DST, make(pd.dst_desc())}};
}

}  // namespace

OneDnnNetwork::OneDnnNetwork(const std::vector<LayerShape>& shapes, Kind kind, std::size_t threads,
                             std::size_t batch)
    : threads_(threads) {
  omp_set_num_threads(static_cast<int>(threads));
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const Types t = types(kind);
  const auto n = static_cast<memory::dim>(batch);
  for (const LayerShape& shape : shapes) {
    const model::Conv c = make_conv(shape);
    const memory::dim in_c = c.in.c;
    const memory::dim out_c = c.out.c;
    const memory::dim k = shape.kernel;
    const memory::dim s = shape.stride;
    const memory::dim g = c.groups;
    const memory::dim p = c.window.pad_top;
    auto layer = std::make_unique<Layer>();
    layer->stream = dnnl::stream(engine);
    layer->count = shape.count;
    if (shape.size == 1) {
      const dnnl::inner_product_forward::desc desc(
          dnnl::prop_kind::forward_inference,
          memory::desc({n, in_c}, t.src, memory::format_tag::ab),
          memory::desc({out_c, in_c}, t.weights, memory::format_tag::any),
          memory::desc({n, out_c}, t.dst, memory::format_tag::ab));
      fill_in(kind, dnnl::inner_product_forward::primitive_desc(desc, attributes(kind), engine),
              engine, layer->primitive, layer->arguments);
    } else {
      const memory::dims weights =
          g == 1 ? memory::dims{out_c, in_c, k, k} : memory::dims{g, out_c / g, in_c / g, k, k};
      const dnnl::convolution_forward::desc desc(
          dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_auto,
          memory::desc({n, in_c, c.in.h, c.in.w}, t.src, memory::format_tag::nhwc),
          memory::desc(weights, t.weights, memory::format_tag::any),
          memory::desc({n, out_c, c.out.h, c.out.w}, t.dst, memory::format_tag::nhwc),
          memory::dims{s, s}, memory::dims{p, p}, memory::dims{p, p});
      fill_in(kind, dnnl::convolution_forward::primitive_desc(desc, attributes(kind), engine),
              engine, layer->primitive, layer->arguments);
    }
    layers_.push_back(std::move(layer));
  }
}

OneDnnNetwork::~OneDnnNetwork() = default;

void OneDnnNetwork::run() {
  omp_set_num_threads(static_cast<int>(threads_));
  for (const auto& layer : layers_) {
    for (std::size_t i = 0; i < layer->count; ++i) {
      layer->primitive.execute(layer->stream, layer->arguments);
    }
    layer->stream.wait();
  }
}

}  // namespace slalom::bench
