// SPDX-License-Identifier: Apache-2.0
#include "vault/stocked_pads.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/checked.h"

namespace slalom::vault {
namespace {

constexpr std::array<char, 8> kMagic = {'S', 'L', 'A', 'L', 'O', 'M', 'P', 'S'};
constexpr std::uint32_t kStoreVersion = 1;
constexpr std::uint64_t kFirstLocation = 4096;
constexpr std::size_t kHeaderBytes = 64;
constexpr Error kDry{
    Errc::kUnavailable,
    "no prepared pads are left: make more with `slalom pads`, or choose --when-dry"};
constexpr std::uint64_t kMostBytes = 1ULL << 50;
constexpr Error kTooMany{Errc::kInvalidArgument, "that many pads do not fit any store"};
constexpr Error kUsed{Errc::kInternal, "a pad was asked for under a number that is not in use"};

std::vector<std::byte> header(const Epoch& epoch, const model::Digest& digest,
                              std::uint64_t image_bytes) {
  base::ByteWriter out;
  out.put(std::as_bytes(std::span(kMagic)));
  out.write(kStoreVersion);
  out.write(std::uint32_t{0});
  out.write(epoch.id);
  out.put(digest);
  out.write(image_bytes);
  return out.release();
}

// chunk_bytes is what `words` words of one chunk take in the store.
std::size_t chunk_bytes(field::Field f, std::size_t words) noexcept {
  return words * field::word_bytes(f) + kTagBytes;
}

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
      options_(options) {}

StockedPads::~StockedPads() = default;

Result<std::unique_ptr<StockedPads>> StockedPads::create(
    const model::Plan& plan, const model::Digest& digest, std::span<const std::uint32_t> nodes,
    const Epoch& epoch, InferenceNumbers& numbers, std::unique_ptr<BlobStore> store,
    const StockOptions& options) {
  std::unique_ptr<StockedPads> pads(
      new StockedPads(digest, epoch, numbers, std::move(store), options));
  for (const std::uint32_t index : nodes) {
    const auto& linear = std::get<model::Linear>(plan.nodes[index].op);
    SLALOM_ASSERT(linear.field.has_value());
    const Range range{*linear.field, pads->image_bytes_, linear.out().elements()};
    const std::size_t chunks = base::div_up(range.words, chunk_words(range.field));
    pads->image_bytes_ += range.words * field::word_bytes(range.field) + chunks * kTagBytes;
    pads->ranges_.emplace(index, range);
  }
  auto factory = Factory::create(plan, nodes, options.cpu, options.threads, options.batch);
  if (!factory.ok()) return factory.error();
  pads->factory_ = std::move(factory).value();
  pads->scratch_.resize(chunk_bytes(field::Field::kP31, chunk_words(field::Field::kP31)));
  SLALOM_TRY(pads->open_store());
  return pads;
}

// open_store recognises what an earlier process left, removes it and writes our header.
Status StockedPads::open_store() {
  if (store_->size() > 0) {
    dead_stock_ = true;
    SLALOM_TRY(store_->clear());
  }
  const auto bytes = header(epoch_, digest_, image_bytes_);
  static_assert(kHeaderBytes <= kFirstLocation);
  SLALOM_ASSERT(bytes.size() == kHeaderBytes);
  SLALOM_TRY(store_->reserve(kFirstLocation));
  return store_->write(0, bytes);
}

FactorAddress StockedPads::address(std::uint64_t inference, std::uint32_t node) const noexcept {
  return {options_.mode, digest_, epoch_.id, inference, node};
}

Result<PadTicket> StockedPads::take() {
  std::unique_lock lock(mutex_);
  if (stock_.empty() && options_.when_dry == WhenDry::kFail) return kDry;
  while (stock_.empty()) {
    if (options_.when_dry == WhenDry::kWait) {
      filled_.wait(lock);
      continue;
    }
    lock.unlock();
    {
      const std::lock_guard factory(factory_mutex_);
      SLALOM_TRY(make(1));
    }
    lock.lock();
  }
  const Stock next = stock_.front();
  stock_.pop_front();
  live_.emplace(next.inference, next.location);
  return PadTicket{next.inference, true, next.location};
}

field::PadAddress StockedPads::pad_address(std::uint64_t inference,
                                           model::TensorId tensor) const noexcept {
  return {options_.mode, digest_, epoch_.id, inference, tensor};
}

Status StockedPads::pad_key(const PadTicket& ticket, model::TensorId tensor,
                            field::StreamKey& key) {
  {
    const std::lock_guard lock(mutex_);
    if (!live_.contains(ticket.inference)) return kUsed;
  }
  field::derive_stream_key(epoch_.key.reveal(), pad_address(ticket.inference, tensor), key);
  return {};
}

void StockedPads::pad_words(std::uint64_t inference, model::TensorId tensor, field::Field f,
                            std::span<std::uint32_t> words) const {
  base::Wiped<field::StreamKey> key;
  field::derive_stream_key(epoch_.key.reveal(), pad_address(inference, tensor), key.reveal());
  field::PadStream(key.reveal(), f, kernels_).fill(0, words);
}

Status StockedPads::open_factors(const PadTicket& ticket, std::uint32_t node, field::Field f,
                                 std::size_t first, std::span<std::uint32_t> out) {
  std::uint64_t location = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto live = live_.find(ticket.inference);
    if (live == live_.end()) return kUsed;
    location = live->second;
  }
  const auto range = ranges_.find(node);
  if (range == ranges_.end() || range->second.field != f || first % chunk_words(f) != 0 ||
      first > range->second.words || out.size() > range->second.words - first) {
    return kUsed;
  }
  std::array<std::byte, 64 * 1024 + kTagBytes> buffer;  // NOLINT: filled by read
  Sealer sealer(epoch_.key.reveal(), address(ticket.inference, node));
  const std::uint64_t base = kFirstLocation + location * image_bytes_ + range->second.offset;
  while (!out.empty()) {
    const std::size_t chunk = first / chunk_words(f);
    const std::size_t words = std::min(chunk_words(f), range->second.words - first);
    if (out.size() < words) return kUsed;
    const std::size_t bytes = words * field::word_bytes(f);
    const auto sealed = std::span(buffer).first(chunk_bytes(f, words));
    SLALOM_TRY(store_->read(base + chunk * chunk_bytes(f, chunk_words(f)), sealed));
    std::array<std::byte, kTagBytes> tag{};
    std::memcpy(tag.data(), sealed.data() + bytes, kTagBytes);
    SLALOM_TRY(sealer.open(static_cast<std::uint32_t>(chunk), sealed.first(bytes), tag));
    kernels_.unpack(f, sealed.data(), words, out.data());
    first += words;
    out = out.subspan(words);
  }
  return {};
}

void StockedPads::destroy(const PadTicket& ticket) {
  const std::lock_guard lock(mutex_);
  const auto live = live_.find(ticket.inference);
  if (live == live_.end()) return;
  free_.push_back(live->second);
  live_.erase(live);
}

std::uint64_t StockedPads::reserve_location() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return locations_++;
  const std::uint64_t location = free_.back();
  free_.pop_back();
  return location;
}

// make computes and seals factors for a few new inference numbers. REQUIRES: factory_mutex_ is
// held.
Status StockedPads::make(std::size_t images) {
  std::vector<Stock> made(images);
  Status status;
  for (Stock& stock : made) {
    stock = {numbers_.next(), reserve_location()};
    const std::uint64_t end = kFirstLocation + (stock.location + 1) * image_bytes_;
    if (status.ok()) status = store_->reserve(end);
  }
  if (status.ok()) {
    status = factory_->compute(
        images,
        [&](std::size_t image, model::TensorId tensor, field::Field f,
            std::span<std::uint32_t> words) { pad_words(made[image].inference, tensor, f, words); },
        [&](std::size_t image, std::uint32_t node, field::Field,
            std::span<const std::uint32_t> factors) { return seal(made[image], node, factors); });
  }
  const std::lock_guard lock(mutex_);
  for (const Stock& stock : made) {
    if (status.ok()) {
      stock_.push_back(stock);
    } else {
      free_.push_back(stock.location);  // the numbers are lost, which costs nothing
    }
  }
  filled_.notify_all();
  return status;
}

Status StockedPads::seal(const Stock& stock, std::uint32_t node,
                         std::span<const std::uint32_t> factors) {
  const Range& range = ranges_.at(node);
  Sealer sealer(epoch_.key.reveal(), address(stock.inference, node));
  std::uint64_t at = kFirstLocation + stock.location * image_bytes_ + range.offset;
  for (std::uint32_t chunk = 0; !factors.empty(); ++chunk) {
    const std::size_t words = std::min(chunk_words(range.field), factors.size());
    const std::size_t bytes = words * field::word_bytes(range.field);
    const auto sealed = std::span(scratch_).first(bytes + kTagBytes);
    kernels_.pack(range.field, factors.data(), words, sealed.data());
    sealer.seal(chunk, sealed.first(bytes),
                std::span<std::byte, kTagBytes>(sealed.data() + bytes, kTagBytes));
    SLALOM_TRY(store_->write(at, sealed));
    at += sealed.size();
    factors = factors.subspan(words);
  }
  return {};
}

Result<std::uint64_t> StockedPads::prepare(std::uint64_t count, Progress progress, void* context) {
  {
    // Ask for all the room first: a disk that is too small is refused before any work is done.
    const std::lock_guard lock(mutex_);
    const std::uint64_t reusable = free_.size();
    const std::uint64_t more = count > reusable ? count - reusable : 0;
    const auto bytes = base::checked_mul<std::uint64_t>(locations_ + more, image_bytes_);
    if (!bytes || *bytes > kMostBytes) return kTooMany;
    SLALOM_TRY(store_->reserve(kFirstLocation + *bytes));
  }
  std::uint64_t made = 0;
  while (made < count) {
    const auto images =
        static_cast<std::size_t>(std::min<std::uint64_t>(count - made, options_.batch));
    {
      const std::lock_guard lock(factory_mutex_);
      SLALOM_TRY(make(images));
    }
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
