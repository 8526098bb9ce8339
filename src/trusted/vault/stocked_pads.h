// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/arena.h"
#include "base/cpu.h"
#include "base/secret.h"
#include "base/thread_pool.h"
#include "field/kernels.h"
#include "field/pad_stream.h"
#include "field/random.h"
#include "linear/engine.h"
#include "model/mode.h"
#include "model/plan.h"
#include "slalom/result.h"
#include "vault/pads.h"
#include "vault/store.h"

namespace slalom::vault {

// InferenceNumbers counts images in attempts over the whole process: all models, loads, connections
// and threads share one. Thread-safe. It never wraps: 2^64 images take longer than the hardware
// lasts.
class InferenceNumbers {
 public:
  [[nodiscard]] std::uint64_t next() noexcept { return next_.fetch_add(1); }

 private:
  std::atomic<std::uint64_t> next_{1};
};

// Epoch is the life of one trusted process as far as pads go: a key that is drawn at start, never
// derived, never shared and never written anywhere, and a public name for it. Whatever the store
// holds from another epoch can never be opened again.
struct Epoch {
  base::Secret<field::StreamKey> key;
  std::uint64_t id = 0;
  // draw makes a fresh epoch; kUnavailable when its key cannot be locked in memory.
  [[nodiscard]] static Result<Epoch> draw(field::Random& random);
};

struct StockOptions {
  model::Privacy mode = model::Privacy::kPads;
  WhenDry when_dry = WhenDry::kInline;
  base::CpuFeatures cpu;
  std::size_t threads = 1;
  std::size_t batch = 4;  // images whose factors are computed together
};

// Place is where the factors of one image lie: a part of the store that is used again and again,
// or, without a store, memory of this process.
struct Place {
  std::uint64_t location = 0;  // in images
  base::SecretArena arena;
  std::span<std::byte> memory;
  std::uint64_t inference = 0;         // what was sealed last
  std::atomic<std::uint64_t> live{0};  // the same while its ticket is in use
};

// StockedPads computes unblinding factors u = W r mod p (the linear part: zero padding, no bias)
// for the remote layers of a plan, on this CPU, several images at a time. This is the offline half
// of the private modes: it costs each layer once per image, in three (p24) or four (p31) limbs.
// The factors lie sealed in a BlobStore (docs/vault-format.md) or as they are in memory of this
// process, the account of them in trusted memory: which inference number lies where, and which
// numbers are still good. An older or foreign copy of the store fails authentication; nothing that
// the store says is believed.
class StockedPads final : public Pads {
 public:
  // nodes: the Linear nodes that run on devices; each has a field. plan, epoch and numbers must
  // outlive the pads; the store is owned (null: memory). A store that holds another epoch's stock
  // is emptied (dead_stock() tells).
  [[nodiscard]] static Result<std::unique_ptr<StockedPads>> create(
      const model::Plan& plan, const model::Digest& digest, std::span<const std::uint32_t> nodes,
      const Epoch& epoch, InferenceNumbers& numbers, std::unique_ptr<BlobStore> store,
      const StockOptions& options);

  [[nodiscard]] Result<PadTicket> take() override;
  [[nodiscard]] std::size_t ready(std::size_t images) const noexcept override {
    return options_.when_dry == WhenDry::kWait ? std::min(images, stock()) : images;
  }
  [[nodiscard]] Status pad_key(const PadTicket& ticket, model::TensorId tensor,
                               field::StreamKey& key) override;
  [[nodiscard]] Status open_factors(const PadTicket& ticket, std::uint32_t node, field::Field f,
                                    std::size_t first, std::span<std::uint32_t> out) override;
  void destroy(const PadTicket& ticket) override;
  [[nodiscard]] Result<std::uint64_t> prepare(std::uint64_t count, Progress progress,
                                              void* context) override;
  [[nodiscard]] std::uint64_t stock() const noexcept override;
  [[nodiscard]] std::uint64_t bytes_per_image() const noexcept override { return image_bytes_; }

  [[nodiscard]] bool dead_stock() const noexcept override { return dead_stock_; }

 private:
  struct Layer {
    model::TensorId input = 0;
    field::Field field = field::Field::kP24;
    std::size_t in = 0, out = 0;  // words an image
    std::uint64_t offset = 0;     // of the factors, within an image's part of the store
    std::unique_ptr<linear::Engine> engine;
  };

  StockedPads(const model::Digest& digest, const Epoch& epoch, InferenceNumbers& numbers,
              std::unique_ptr<BlobStore> store, const StockOptions& options);
  Status prepare_layers(const model::Plan& plan, std::span<const std::uint32_t> nodes);
  Status open_store();
  Status make(std::size_t images);
  Status make_factors(std::uint32_t node, const Layer& layer, std::span<Place* const> images);
  Status seal(const Place& place, std::uint32_t node, const Layer& layer,
              std::span<const std::uint32_t> factors, std::size_t run, std::size_t worker);
  // address is where everything of one image that belongs to a tensor or node is derived from.
  [[nodiscard]] field::Address address(std::uint64_t inference, std::uint32_t index) const noexcept;
  [[nodiscard]] static bool live(const PadTicket& ticket) noexcept;
  // reserve takes a free place or makes one; kUnavailable without memory for it.
  [[nodiscard]] Result<Place*> reserve();

  const model::Digest digest_;
  const Epoch& epoch_;
  const field::Kernels& kernels_;
  InferenceNumbers& numbers_;
  const std::unique_ptr<BlobStore> store_;  // or null
  const StockOptions options_;
  base::ThreadPool pool_;  // outlives the engines
  bool dead_stock_ = false;
  std::uint64_t image_bytes_ = 0;
  std::map<std::uint32_t, Layer> layers_;  // by node; fixed after create

  std::mutex factory_mutex_;  // held while factors are computed; guards the engines and
  std::vector<std::uint32_t> pads_, factors_;  // of one layer, image after image; wiped after use
  std::vector<std::byte> sealed_;              // one run of chunks a thread

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable filled_;
  std::deque<Place> places_;  // all there are; they stay where they are
  std::deque<Place*> stock_;  // sealed, not yet in use
  std::vector<Place*> free_;  // may be sealed over; has room for all
};

}  // namespace slalom::vault
