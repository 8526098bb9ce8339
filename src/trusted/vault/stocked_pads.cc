// SPDX-License-Identifier: Apache-2.0
#include "vault/stocked_pads.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <variant>

#include "base/archive.h"
#include "base/arena.h"
#include "base/assert.h"
#include "base/round_up.h"
#include "vault/sealer.h"

namespace slalom::vault {
namespace {

constexpr std::array<char, 8> kMagic = {'S', 'L', 'A', 'L', 'O', 'M', 'P', 'S'};
constexpr std::uint32_t kStoreVersion = 1;
constexpr std::uint64_t kFirstLocation = 4096;
constexpr Error kDry{Errc::kUnavailable,
                     "no pads are left: make more with `slalom pads`, or choose --when-dry"};
constexpr std::uint64_t kMostBytes = 1ULL << 50;
constexpr Error kTooMany{Errc::kInvalidArgument, "that many pads do not fit any store"};
constexpr Error kUsed{Errc::kInternal, "a pad was asked for under a number that is not in use"};

// The factory's threads make pads in pieces of so many words, and seal in runs of so many chunks.
constexpr std::size_t kPiece = 16'384;
constexpr std::size_t kRunChunks = 16;

// chunk_bytes is what `words` words of one chunk take in the store.
std::size_t chunk_bytes(field::Field f, std::size_t words) noexcept {
  return words * field::word_bytes(f) + kTagBytes;
}

const std::size_t kRunBytes =
    kRunChunks * chunk_bytes(field::Field::kP31, Pads::chunk_words(field::Field::kP31));

}  // namespace

Result<Epoch> Epoch::draw(field::Random& random) {
  auto key = base::Secret<field::StreamKey>::create();
  if (!key.ok()) return key.error();
  Epoch epoch{std::move(key).value(), 0};
  random.fill(epoch.key.bytes());
  random.fill(std::as_writable_bytes(std::span(&epoch.id, 1)));
  return epoch;
}

StockedPads::StockedPads(const model::Digest& digest, const Epoch& epoch, InferenceNumbers& numbers,
                         std::unique_ptr<BlobStore> store, const StockOptions& options)
    : digest_(digest),
      epoch_(epoch),
      kernels_(field::choose_kernels(options.cpu)),
      numbers_(numbers),
      store_(std::move(store)),
      options_(options),
      pool_(options.threads) {}

Result<std::unique_ptr<StockedPads>> StockedPads::create(
    const model::Plan& plan, const model::Digest& digest, std::span<const std::uint32_t> nodes,
    const Epoch& epoch, InferenceNumbers& numbers, std::unique_ptr<BlobStore> store,
    const StockOptions& options) {
  std::unique_ptr<StockedPads> pads(
      new StockedPads(digest, epoch, numbers, std::move(store), options));
  SLALOM_TRY(pads->prepare_layers(plan, nodes));
  SLALOM_TRY(pads->open_store());
  return pads;
}

Status StockedPads::prepare_layers(const model::Plan& plan, std::span<const std::uint32_t> nodes) {
  SLALOM_ASSERT(options_.batch > 0);
  std::size_t in = 0;
  std::size_t out = 0;
  for (const std::uint32_t index : nodes) {
    const model::Node& node = plan.nodes[index];
    const auto& linear = std::get<model::Linear>(node.op);
    SLALOM_ASSERT(linear.field.has_value());
    auto engine = linear::make_engine(
        linear, {.cpu = options_.cpu, .pool = pool_, .max_batch = options_.batch});
    if (!engine.ok()) return engine.error();
    const Layer& layer =
        layers_
            .emplace(index, Layer{node.inputs[0], *linear.field, linear.in().elements(),
                                  linear.out().elements(), image_bytes_, std::move(*engine)})
            .first->second;
    const std::size_t chunks = base::div_up(layer.out, chunk_words(layer.field));
    image_bytes_ += layer.out * field::word_bytes(layer.field) + chunks * kTagBytes;
    in = std::max(in, layer.in);
    out = std::max(out, layer.out);
  }
  pads_.resize(in * options_.batch);
  factors_.resize(out * options_.batch);
  if (store_ != nullptr) sealed_.resize(pool_.size() * kRunBytes);
  return {};
}

// open_store recognises what an earlier process left, removes it and writes our header.
Status StockedPads::open_store() {
  if (store_ == nullptr) return {};
  if (store_->size() > 0) {
    dead_stock_ = true;
    SLALOM_TRY(store_->clear());
  }
  SLALOM_TRY(store_->reserve(kFirstLocation));
  base::ArchiveWriter header;
  header(kMagic, kStoreVersion, std::uint32_t{0}, epoch_.id, digest_, image_bytes_);
  return store_->write(0, header.release());
}

field::Address StockedPads::address(std::uint64_t inference, std::uint32_t index) const noexcept {
  return {options_.mode, digest_, epoch_.id, inference, index};
}

bool StockedPads::live(const PadTicket& ticket) noexcept {
  return ticket.place != nullptr && ticket.place->live.load() == ticket.inference;
}

Result<PadTicket> StockedPads::take() {
  bool stocked = true;
  std::unique_lock lock(mutex_);
  while (stock_.empty()) {
    if (options_.when_dry == WhenDry::kFail) return kDry;
    if (options_.when_dry == WhenDry::kWait) {
      filled_.wait(lock);
      continue;
    }
    stocked = false;
    lock.unlock();
    SLALOM_TRY(make(1));
    lock.lock();
  }
  Place* const next = stock_.front();
  stock_.pop_front();
  next->live = next->inference;
  return PadTicket{next->inference, stocked, next};
}

Status StockedPads::pad_key(const PadTicket& ticket, model::TensorId tensor,
                            field::StreamKey& key) {
  if (!live(ticket)) return kUsed;
  field::derive_stream_key(epoch_.key.reveal(), address(ticket.inference, tensor), key);
  return {};
}

Status StockedPads::open_factors(const PadTicket& ticket, std::uint32_t node, field::Field f,
                                 std::size_t first, std::span<std::uint32_t> out) {
  const auto found = layers_.find(node);
  if (!live(ticket) || found == layers_.end()) return kUsed;
  const Layer& layer = found->second;
  if (layer.field != f || first % chunk_words(f) != 0 || first > layer.out ||
      out.size() > layer.out - first) {
    return kUsed;
  }
  std::size_t chunk = first / chunk_words(f);
  const Place& place = *ticket.place;
  std::uint64_t at = layer.offset + chunk * chunk_bytes(f, chunk_words(f));
  alignas(64) std::array<std::byte, 64 * 1024 + kTagBytes> buffer;  // NOLINT: filled by read
  std::optional<Sealer> sealer;
  if (store_ != nullptr) sealer.emplace(epoch_.key.reveal(), address(ticket.inference, node));
  for (; !out.empty(); ++chunk) {
    const std::size_t words = std::min(chunk_words(f), layer.out - chunk * chunk_words(f));
    if (out.size() < words) return kUsed;
    const auto sealed = std::span(buffer).first(chunk_bytes(f, words));
    if (sealer) {
      SLALOM_TRY(store_->read(kFirstLocation + place.location * image_bytes_ + at, sealed));
      SLALOM_TRY(sealer->open(static_cast<std::uint32_t>(chunk),
                              sealed.first(sealed.size() - kTagBytes), sealed.last<kTagBytes>()));
    }
    kernels_.unpack(f, sealer ? sealed.data() : place.memory.data() + at, words, out.data());
    at += sealed.size();
    out = out.subspan(words);
  }
  return {};
}

void StockedPads::destroy(const PadTicket& ticket) {
  const std::lock_guard lock(mutex_);
  if (!live(ticket)) return;
  ticket.place->live = 0;
  free_.push_back(ticket.place);
}

Result<Place*> StockedPads::reserve() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    const std::size_t bytes = store_ == nullptr ? image_bytes_ : 0;
    auto arena = base::SecretArena::create(bytes, base::Lock::kWhereAllowed);
    if (!arena.ok()) return arena.error();
    Place& place = places_.emplace_back();
    place.location = places_.size() - 1;
    place.arena = std::move(arena).value();
    if (bytes != 0) place.memory = place.arena.take<std::byte>(bytes);
    free_.push_back(&place);
    free_.reserve(places_.size());
  }
  Place* const place = free_.back();
  free_.pop_back();
  return place;
}

// make computes and seals factors for a few new inference numbers.
Status StockedPads::make(std::size_t images) {
  const std::lock_guard factory(factory_mutex_);
  std::vector<Place*> made;
  Status status;
  while (status.ok() && made.size() < images) {
    const auto place = reserve();
    if (!place.ok()) {
      status = place.error();
      break;
    }
    made.push_back(*place);
    made.back()->inference = numbers_.next();
    const std::uint64_t end = kFirstLocation + ((*place)->location + 1) * image_bytes_;
    if (store_ != nullptr) status = store_->reserve(end);
  }
  for (const auto& [node, layer] : layers_) {
    if (status.ok()) status = make_factors(node, layer, made);
  }
  base::wipe(pads_.data(), pads_.size() * sizeof(pads_[0]));
  base::wipe(factors_.data(), factors_.size() * sizeof(factors_[0]));
  const std::lock_guard lock(mutex_);
  if (status.ok()) {
    stock_.insert(stock_.end(), made.begin(), made.end());
  } else {
    free_.insert(free_.end(), made.begin(), made.end());  // lost numbers cost nothing
  }
  filled_.notify_all();
  return status;
}

Status StockedPads::make_factors(std::uint32_t node, const Layer& layer,
                                 std::span<Place* const> images) {
  SLALOM_ASSERT(images.size() <= options_.batch);
  const auto pads = std::span(pads_).first(layer.in * images.size());
  const auto factors = std::span(factors_).first(layer.out * images.size());
  // The factory's threads share the pads and the sealing as they share the layer itself.
  const std::size_t pieces = base::div_up(layer.in, kPiece);
  pool_.parallel_for(images.size() * pieces, [&](std::size_t task, std::size_t) {
    const Place& place = *images[task / pieces];
    const std::size_t first = task % pieces * kPiece;
    base::Wiped<field::StreamKey> key;
    field::derive_stream_key(epoch_.key.reveal(), address(place.inference, layer.input),
                             key.reveal());
    field::PadStream(key.reveal(), layer.field, kernels_)
        .fill(first,
              pads.subspan(task / pieces * layer.in + first, std::min(kPiece, layer.in - first)));
  });
  layer.engine->run_words(layer.field, pads, images.size(), factors);
  const std::size_t runs = base::div_up(layer.out, kRunChunks * chunk_words(layer.field));
  std::vector<Status> done(pool_.size());
  pool_.parallel_for(images.size() * runs, [&](std::size_t task, std::size_t worker) {
    const auto of_image = factors.subspan(task / runs * layer.out, layer.out);
    const Status sealed = seal(*images[task / runs], node, layer, of_image, task % runs, worker);
    if (!sealed.ok()) done[worker] = sealed;
  });
  for (const Status& status : done) SLALOM_TRY(status);
  return {};
}

// seal packs, seals and writes one run of chunks of one image's factors.
Status StockedPads::seal(const Place& place, std::uint32_t node, const Layer& layer,
                         std::span<const std::uint32_t> factors, std::size_t run,
                         std::size_t worker) {
  const std::size_t most = chunk_words(layer.field);
  std::optional<Sealer> sealer;
  if (store_ != nullptr) sealer.emplace(epoch_.key.reveal(), address(place.inference, node));
  auto chunk = static_cast<std::uint32_t>(run * kRunChunks);
  const std::uint64_t at = layer.offset + chunk * chunk_bytes(layer.field, most);
  factors = factors.subspan(chunk * most);
  factors = factors.first(std::min(factors.size(), kRunChunks * most));
  const auto all =
      sealer ? std::span(sealed_).subspan(worker * kRunBytes, kRunBytes) : place.memory.subspan(at);
  std::span<std::byte> rest = all;
  for (; !factors.empty(); ++chunk) {
    const std::size_t words = std::min(most, factors.size());
    const auto sealed = rest.first(chunk_bytes(layer.field, words));
    kernels_.pack(layer.field, factors.data(), words, sealed.data());
    if (sealer) {
      sealer->seal(chunk, sealed.first(sealed.size() - kTagBytes), sealed.last<kTagBytes>());
    }
    rest = rest.subspan(sealed.size());
    factors = factors.subspan(words);
  }
  // Long writes: the kernel keeps them in larger pieces, which are read twice as fast.
  return sealer ? store_->write(kFirstLocation + place.location * image_bytes_ + at,
                                all.first(all.size() - rest.size()))
                : Status{};
}

Result<std::uint64_t> StockedPads::prepare(std::uint64_t count, Progress progress, void* context) {
  {
    // Ask for all the room first: a disk that is too small is refused before any work is done.
    const std::lock_guard lock(mutex_);
    const std::uint64_t more = count - std::min<std::uint64_t>(count, free_.size());
    const std::uint64_t most = kMostBytes / std::max<std::uint64_t>(image_bytes_, 1);
    if (places_.size() > most || more > most - places_.size()) return kTooMany;
    const std::uint64_t end = kFirstLocation + (places_.size() + more) * image_bytes_;
    if (store_ != nullptr) SLALOM_TRY(store_->reserve(end));
  }
  std::uint64_t made = 0;
  while (made < count) {
    const auto images =
        static_cast<std::size_t>(std::min<std::uint64_t>(count - made, options_.batch));
    SLALOM_TRY(make(images));
    made += images;
    if (progress != nullptr && !progress(context, made, count)) break;
  }
  return made;
}

std::uint64_t StockedPads::stock() const noexcept {
  const std::lock_guard lock(mutex_);
  return stock_.size();
}

}  // namespace slalom::vault
