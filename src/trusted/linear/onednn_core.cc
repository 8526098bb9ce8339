// SPDX-License-Identifier: Apache-2.0
#include "linear/candidates.h"

#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/round_up.h"
#include "linear/core.h"
#include "linear/tiled_engine.h"

// libgomp's controls, declared here because omp.h belongs to the compiler: oneDNN sizes its work by
// them.
extern "C" {
int omp_get_max_threads();
void omp_set_num_threads(int);
}

namespace slalom::linear {
namespace {

using model::Conv;
using model::ConvStage;

// u8 x s8 sums of at most 2^31 / (255 * 127) terms fit an int32 (DESIGN section 3).
constexpr std::size_t kLongestSum = 66'311;
constexpr std::size_t kColumnStep = 64;

template <class Handle, dnnl_status_t (*Destroy)(Handle)>
struct Destroyer {
  using pointer = Handle;
  void operator()(Handle handle) const noexcept { Destroy(handle); }
};
template <class Handle, dnnl_status_t (*Destroy)(Handle)>
using Owned = std::unique_ptr<Handle, Destroyer<Handle, Destroy>>;
using OwnedEngine = Owned<dnnl_engine_t, dnnl_engine_destroy>;
using OwnedStream = Owned<dnnl_stream_t, dnnl_stream_destroy>;
using OwnedMemory = Owned<dnnl_memory_t, dnnl_memory_destroy>;
using OwnedAttributes = Owned<dnnl_primitive_attr_t, dnnl_primitive_attr_destroy>;
using OwnedDescriptor = Owned<dnnl_primitive_desc_t, dnnl_primitive_desc_destroy>;
using OwnedPrimitive = Owned<dnnl_primitive_t, dnnl_primitive_destroy>;

// make returns what `create(&handle, args...)` made, or null.
template <class Owner, class... Args>
Owner make(dnnl_status_t (*create)(typename Owner::pointer*, Args...),
           std::type_identity_t<Args>... args) {
  typename Owner::pointer handle = nullptr;
  return Owner(create(&handle, args...) == dnnl_success ? handle : nullptr);
}

// OneThread keeps oneDNN from starting threads of its own: the number is a property of the calling
// thread, and one thread means that libgomp is not entered.
struct OneThread {
  OneThread() noexcept { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  const int before = omp_get_max_threads();
};

dnnl_memory_desc_t describe_memory(std::initializer_list<std::size_t> dims, dnnl_data_type_t type,
                                   dnnl_format_tag_t tag) noexcept {
  dnnl_memory_desc_t out{};
  std::array<dnnl_dim_t, DNNL_MAX_NDIMS> d{};
  std::size_t n = 0;
  for (const std::size_t dim : dims) d[n++] = static_cast<dnnl_dim_t>(dim);
  dnnl_memory_desc_init_by_tag(&out, static_cast<int>(n), d.data(), type, tag);
  return out;
}

// describe_weights: our order [out][kh][kw][in] has its own tags; `any` lets oneDNN choose.
dnnl_memory_desc_t describe_weights(const Conv& c, bool dense, std::size_t channels,
                                    bool any) noexcept {
  const auto tag = [any](dnnl_format_tag_t plain) { return any ? dnnl_format_tag_any : plain; };
  const std::size_t kh = c.window.kernel_h;
  const std::size_t kw = c.window.kernel_w;
  if (dense) return describe_memory({channels, c.in.c}, dnnl_s8, tag(dnnl_ab));
  if (c.groups == 1) return describe_memory({channels, c.in.c, kh, kw}, dnnl_s8, tag(dnnl_acdb));
  return describe_memory({c.groups, c.group_out(), c.group_in(), kh, kw}, dnnl_s8, tag(dnnl_abdec));
}

// Multiplier is one primitive: some rows of a tile times one chunk of output channels.
struct Multiplier {
  std::size_t rows = 0;
  std::size_t chunk = 0;
  OwnedPrimitive primitive;
  OwnedMemory weights;
  struct OfWorker {  // handles are set before each execution
    OwnedMemory src, dst, scratch;
  };
  std::vector<OfWorker> workers;
};

class OneDnnCore final : public Core {
 public:
  OneDnnCore(const Tiling& tiling, const Kernels& kernels)
      : Core(tiling, base::round_up(tiling.conv.out.c, kColumnStep), false), kernels_(kernels) {}

  // prepare makes a primitive for each number of rows that tiles will have, or returns false if
  // oneDNN has none that is fast.
  [[nodiscard]] bool prepare(const ConvStage& stage, std::span<const std::size_t> row_counts,
                             std::size_t workers) {
    const OneThread one;
    engine_ = make<OwnedEngine>(dnnl_engine_create, dnnl_cpu, 0);
    for (std::size_t i = 0; i < workers; ++i) {
      streams_.push_back(
          make<OwnedStream>(dnnl_stream_create, engine_.get(), dnnl_stream_default_flags));
      if (streams_.back() == nullptr) return false;
    }
    for (std::size_t chunk = 0; chunk < tiling_.chunks; ++chunk) {
      for (const std::size_t rows : row_counts) {
        if (!add_multiplier(stage, rows, chunk)) return false;
      }
    }
    corrections_.assign(1, std::vector<std::int32_t>(columns_, 0));
    for (std::size_t i = 0; i < stage.weights.size(); ++i) {
      corrections_[0][i / tiling_.conv.terms()] -= 128 * stage.weights[i];
    }
    return true;
  }

  [[nodiscard]] bool reads_only_rows(std::size_t rows) const noexcept override {
    return multiplier(rows, 0).rows == rows;
  }
  [[nodiscard]] bool writes_only_rows(std::size_t rows) const noexcept override {
    return multiplier(rows, 0).rows == rows;
  }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept override { return scratch_bytes_; }

  void run(const TileJob& job) noexcept override {
    const Multiplier& m = multiplier(job.rows, job.chunk);
    const Multiplier::OfWorker& memory = m.workers[job.worker];
    dnnl_memory_set_data_handle(memory.src.get(), const_cast<std::byte*>(job.src));
    dnnl_memory_set_data_handle(memory.dst.get(), job.sums);
    dnnl_memory_set_data_handle(memory.scratch.get(), job.scratch);
    const std::array<dnnl_exec_arg_t, 4> args = {{{DNNL_ARG_SRC, memory.src.get()},
                                                  {DNNL_ARG_WEIGHTS, m.weights.get()},
                                                  {DNNL_ARG_DST, memory.dst.get()},
                                                  {DNNL_ARG_SCRATCHPAD, memory.scratch.get()}}};
    const OneThread one;
    const dnnl_status_t status = dnnl_primitive_execute(
        m.primitive.get(), streams_[job.worker].get(), args.size(), args.data());
    SLALOM_ASSERT(status == dnnl_success);
    const std::size_t channels = chunk(job.chunk).channels;
    kernels_.add_rows(job.init, job.rows * tiling_.conv.out.w, channels, job.sums);
  }

 private:
  // multiplier is the smallest one with at least these rows: a dense layer's batches share a few.
  [[nodiscard]] const Multiplier& multiplier(std::size_t rows, std::size_t chunk) const noexcept {
    const Multiplier* best = nullptr;
    for (const Multiplier& m : multipliers_) {
      if (m.chunk == chunk && m.rows >= rows && (best == nullptr || m.rows < best->rows)) best = &m;
    }
    SLALOM_ASSERT(best != nullptr);
    return *best;
  }

  [[nodiscard]] OwnedMemory make_memory(const dnnl_memory_desc_t& description, void* data) const {
    return make<OwnedMemory>(dnnl_memory_create, &description, engine_.get(), data);
  }

  [[nodiscard]] OwnedDescriptor describe(std::size_t rows, const ChunkShape& shape) const {
    const Conv& c = tiling_.conv;
    const model::Window& w = c.window;
    const bool dense = tiling_.images_as_rows;
    const auto weights = describe_weights(c, dense, shape.channels, true);
    const auto attributes = make<OwnedAttributes>(dnnl_primitive_attr_create);
    dnnl_primitive_attr_set_scratchpad_mode(attributes.get(), dnnl_scratchpad_mode_user);
    if (dense) {
      const auto src = describe_memory({rows, c.in.c}, dnnl_u8, dnnl_ab);
      const auto dst = describe_memory({rows, shape.channels}, dnnl_s32, dnnl_ab);
      dnnl_inner_product_desc_t product{};
      dnnl_inner_product_forward_desc_init(&product, dnnl_forward_inference, &src, &weights,
                                           nullptr, &dst);
      return make<OwnedDescriptor>(dnnl_primitive_desc_create, &product, attributes.get(),
                                   engine_.get(), nullptr);
    }
    // A column of positions (pointwise layers) is laid down as a row.
    const bool column = c.in.w == 1 && w == model::Window{};
    const std::size_t in_h = column ? 1 : tiling_.input_rows(rows);
    const std::size_t in_w = column ? rows : w.pad_left + c.in.w + w.pad_right;
    const std::size_t out_h = column ? 1 : rows;
    const std::size_t out_w = column ? rows : c.out.w;
    const auto src = describe_memory({1, c.in.c, in_h, in_w}, dnnl_u8, dnnl_nhwc);
    const auto dst = describe_memory({1, shape.channels, out_h, out_w}, dnnl_s32, dnnl_nhwc);
    const dnnl_dims_t strides = {w.stride_h, w.stride_w};
    const dnnl_dims_t dilations = {w.dilation_h - 1, w.dilation_w - 1};
    const dnnl_dims_t padding = {0, 0};
    // Columns that the last window does not reach are cut off by negative padding.
    const std::size_t read =
        (out_w - 1) * w.stride_w + std::size_t{w.kernel_w - 1} * w.dilation_w + 1;
    const dnnl_dims_t end = {0, static_cast<dnnl_dim_t>(read) - static_cast<dnnl_dim_t>(in_w)};
    dnnl_convolution_desc_t convolution{};
    dnnl_dilated_convolution_forward_desc_init(&convolution, dnnl_forward_inference,
                                               dnnl_convolution_direct, &src, &weights, nullptr,
                                               &dst, strides, dilations, padding, end);
    return make<OwnedDescriptor>(dnnl_primitive_desc_create, &convolution, attributes.get(),
                                 engine_.get(), nullptr);
  }

  [[nodiscard]] OwnedMemory reorder_weights(const ConvStage& stage, const ChunkShape& shape,
                                            const dnnl_memory_desc_t& wanted) const {
    const auto plain =
        describe_weights(tiling_.conv, tiling_.images_as_rows, shape.channels, false);
    const std::int8_t* first = stage.weights.data() + shape.first * tiling_.conv.terms();
    const OwnedMemory from = make_memory(plain, const_cast<std::int8_t*>(first));
    OwnedMemory to = make_memory(wanted, DNNL_MEMORY_ALLOCATE);
    const auto descriptor = make<OwnedDescriptor>(dnnl_reorder_primitive_desc_create, &plain,
                                                  engine_.get(), &wanted, engine_.get(), nullptr);
    const auto reorder = make<OwnedPrimitive>(dnnl_primitive_create, descriptor.get());
    const std::array<dnnl_exec_arg_t, 2> args = {
        {{DNNL_ARG_FROM, from.get()}, {DNNL_ARG_TO, to.get()}}};
    const bool done =
        dnnl_primitive_execute(reorder.get(), streams_[0].get(), 2, args.data()) == dnnl_success;
    return done ? std::move(to) : OwnedMemory();
  }

  [[nodiscard]] bool add_multiplier(const ConvStage& stage, std::size_t rows,
                                    std::size_t chunk_index) {
    const ChunkShape shape = chunk(chunk_index);
    const OwnedDescriptor descriptor = describe(rows, shape);
    if (descriptor == nullptr) return false;
    const char* made = "";
    dnnl_primitive_desc_query(descriptor.get(), dnnl_query_impl_info_str, 0, &made);
    const std::string_view name = made;
    if (name.starts_with("ref") || name.starts_with("gemm:ref")) return false;
    const auto query = [&](dnnl_query_t what) {
      return *dnnl_primitive_desc_query_md(descriptor.get(), what, 0);
    };
    const dnnl_memory_desc_t scratch = query(dnnl_query_scratchpad_md);
    Multiplier m{.rows = rows,
                 .chunk = chunk_index,
                 .primitive = make<OwnedPrimitive>(dnnl_primitive_create, descriptor.get()),
                 .weights = reorder_weights(stage, shape, query(dnnl_query_weights_md)),
                 .workers = {}};
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      m.workers.push_back({make_memory(query(dnnl_query_src_md), DNNL_MEMORY_NONE),
                           make_memory(query(dnnl_query_dst_md), DNNL_MEMORY_NONE),
                           make_memory(scratch, DNNL_MEMORY_NONE)});
    }
    scratch_bytes_ = std::max(scratch_bytes_, dnnl_memory_desc_get_size(&scratch));
    multipliers_.push_back(std::move(m));
    return multipliers_.back().primitive != nullptr && multipliers_.back().weights != nullptr;
  }

  const Kernels& kernels_;
  OwnedEngine engine_;
  std::vector<OwnedStream> streams_;  // one a worker
  std::vector<Multiplier> multipliers_;
  std::size_t scratch_bytes_ = 0;
};

// row_counts lists the numbers of rows that the tiles of a layer have: full tiles and the last one;
// where rows are images, a few sizes that other batches are rounded up to.
std::vector<std::size_t> row_counts(const Tiling& t) {
  std::vector<std::size_t> counts = {t.rows};
  if (t.images_as_rows) {
    for (std::size_t n = 1; n < t.rows; n *= 2) counts.push_back(n);
  } else if (t.conv.out.h % t.rows != 0) {
    counts.push_back(t.conv.out.h % t.rows);
  }
  return counts;
}

}  // namespace

std::unique_ptr<Engine> make_onednn(const model::Linear& layer, const EngineOptions& options) {
  if (!options.cpu.avx512_vnni) return nullptr;
  const Kernels& kernels = choose_kernels(options.cpu);
  const TilingTarget target{.format = Format::kBytes,
                            .column_step = kColumnStep,
                            .chunk_step = kColumnStep,
                            .threads = options.pool.size(),
                            .max_batch = options.max_batch,
                            .whole = layer.stages.size() > 1};
  std::vector<std::unique_ptr<Core>> cores;
  std::string_view name = kernels.name;
  for (const ConvStage& stage : layer.stages) {
    if (stage.conv.depthwise()) {  // one of a single channel is a convolution like any other
      cores.push_back(make_kernel_core(stage, kernels, target));
      continue;
    }
    if (stage.conv.terms() > kLongestSum) return nullptr;
    const Tiling tiling = make_tiling(stage.conv, target);
    // The second stage of a pair meets the positions of the first one's tiles.
    const Tiling& first = cores.empty() ? tiling : cores.front()->tiling();
    std::vector<std::size_t> counts = row_counts(first);
    if (!cores.empty()) {
      for (std::size_t& n : counts) n *= first.conv.out.w;
    }
    auto core = std::make_unique<OneDnnCore>(tiling, kernels);
    if (!core->prepare(stage, counts, options.pool.size())) return nullptr;
    cores.push_back(std::move(core));
    name = "onednn";
  }
  return make_tiled_engine(layer, options, name, kernels, std::move(cores));
}

}  // namespace slalom::linear
