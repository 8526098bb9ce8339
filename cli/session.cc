// SPDX-License-Identifier: Apache-2.0
#include "cli/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "cli/failure.h"
#include "cli/files.h"
#include "cli/placement.h"
#include "cli/terminal.h"
#include "untrusted/baseline/float_engine.h"
#include "untrusted/host/plan_file.h"

namespace slalom::cli {
namespace {

namespace fs = std::filesystem;

// Feed gives the images of an InputSet to the engine. The engine is no place for exceptions: the
// first one ends the stream and waits here.
class Feed : public runtime::Source {
 public:
  Feed(const InputSet& inputs, const model::Plan& plan) : inputs_(inputs), plan_(plan) {}
  bool next(std::span<std::uint8_t> codes) override {
    if (at_ == inputs_.count() || problem_) return false;
    try {
      to_codes(plan_, inputs_.get(at_), codes);
    } catch (...) {
      problem_ = std::current_exception();
      return false;
    }
    ++at_;
    return true;
  }
  void rethrow() const {
    if (problem_) std::rethrow_exception(problem_);
  }

 private:
  const InputSet& inputs_;
  const model::Plan& plan_;
  std::size_t at_ = 0;
  std::exception_ptr problem_;
};

// Round gives ready codes, over and over.
class Round : public runtime::Source {
 public:
  Round(std::span<const std::vector<std::uint8_t>> images, std::uint64_t count)
      : images_(images), left_(count) {}
  bool next(std::span<std::uint8_t> codes) override {
    if (left_ == 0) return false;
    const std::vector<std::uint8_t>& image = images_[--left_ % images_.size()];
    std::copy(image.begin(), image.end(), codes.begin());
    return true;
  }

 private:
  std::span<const std::vector<std::uint8_t>> images_;
  std::uint64_t left_;
};

class Collect : public runtime::Sink {
 public:
  explicit Collect(const std::function<void(std::uint64_t, Answer)>& answer) : answer_(answer) {}
  void deliver(std::uint64_t image, std::span<const runtime::OutputView> outputs) override {
    Answer answer;
    for (const runtime::OutputView& view : outputs) {
      if (view.integers.empty()) {
        answer.outputs.emplace_back(view.codes.begin(), view.codes.end());
      } else {
        answer.outputs.emplace_back(view.integers.begin(), view.integers.end());
      }
    }
    give(image, std::move(answer));
  }
  void fail(std::uint64_t image, Error error) override {
    Answer answer;
    answer.error = error;
    give(image, std::move(answer));
  }
  void rethrow() const {
    if (problem_) std::rethrow_exception(problem_);
  }

 private:
  void give(std::uint64_t image, Answer answer) {
    if (problem_) return;
    try {
      answer_(image, std::move(answer));
    } catch (...) {
      problem_ = std::current_exception();
    }
  }

  const std::function<void(std::uint64_t, Answer)>& answer_;
  std::exception_ptr problem_;
};

}  // namespace

Session::Session(const std::string& plan_file, const ModeOptions& options, bool unplaced)
    : options_(options) {
  const host::PlanFile file = unwrap(host::read_plan_file(plan_file));
  host::EngineOptions start = prepared(plan_file);
  const bool placed = !unplaced && place(*file.plan, file.digest, start.modes);
  if (!placed) start.modes.placement = {std::vector<bool>(file.plan->nodes.size(), false)};
  auto engine = options.precision == Precision::kFp32 ? baseline::start_float_engine(start)
                                                      : host::Engine::start(start);
  if (!engine.ok()) {
    if (!pad_folder_.empty()) fs::remove_all(pad_folder_);
    throw Stop(engine.failure());
  }
  engine_ = *std::move(engine);
  report_dead_stock();
  if (!placed && !unplaced) plan_now();
}

// The key of an earlier process is gone, so its pads can never be used; the trusted process removed
// them.
void Session::report_dead_stock() {
  if (options_.privacy != model::Privacy::kPads) return;
  if (!unwrap(engine_->pad_stock()).dead_stock) return;
  fmt::print(stderr, "'{}' held pads of a process that has ended; they were removed.\n",
             options_.pad_store);
}

bool Session::place(const model::Plan& plan, const model::Digest& digest, host::Modes& modes) {
  micro_batch_ = modes.options.micro_batch;
  if (options_.precision == Precision::kFp32) return true;
  if (!wants_plan(options_)) {
    modes.placement = simple_placement(plan, options_);
    return true;
  }
  const auto remembered = remembered_placement(plan, digest, options_);
  if (!remembered) return false;
  modes.placement = remembered->placement;
  modes.options.micro_batch = micro_batch_ = remembered->micro_batch;
  return true;
}

planner::Planned Session::plan_now() {
  planned_ = true;
  auto planned = plan_placement(*engine_, prepared({}).modes, options_);
  micro_batch_ = planned.micro_batch;
  return planned;
}

Session::~Session() {
  engine_.reset();
  std::error_code ignored;
  if (!pad_folder_.empty()) fs::remove_all(pad_folder_, ignored);
}

host::EngineOptions Session::prepared(const std::string& plan_file) {
  host::EngineOptions out = engine_options(plan_file, options_);
  if (options_.privacy == model::Privacy::kPads && options_.pad_store == kPadsInTemporary) {
    if (pad_folder_.empty()) pad_folder_ = temporary_folder("the pads (or name a file)");
    out.modes.pad_store = (fs::path(pad_folder_) / "pads").string();
  }
  return out;
}

void Session::reconfigure(const ModeOptions& options) {
  options_ = options;
  host::Modes modes = prepared({}).modes;
  if (place(plan(), engine_->digest(), modes)) {
    unwrap(engine_->reconfigure(modes));
  } else {
    plan_now();
  }
}

double Session::make_pads(std::uint64_t images) {
  if (options_.privacy != model::Privacy::kPads) return 0;
  const std::uint64_t count = options_.pads_given ? options_.pads : images;
  if (count == 0) return 0;
  const host::PadStock stock = unwrap(engine_->pad_stock());
  fmt::print(stderr, "Making pads for {}: {} an image, {} in all ({} free).\n",
             counted(count, "image"), human_bytes(stock.bytes_per_image),
             human_bytes(stock.bytes_per_image * count), human_bytes(stock.free_bytes));
  const auto start = std::chrono::steady_clock::now();
  Progress progress("Making pads", count);
  unwrap(engine_->prepare(count, [&](std::uint64_t made, std::uint64_t) {
    progress.set(made);
    return true;
  }));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

host::Done Session::run(const InputSet& inputs,
                        const std::function<void(std::uint64_t, Answer)>& answer) {
  Feed feed(inputs, plan());
  Collect collect(answer);
  host::Done done = engine_->run(feed, collect);
  collect.rethrow();
  feed.rethrow();
  return done;
}

host::Done Session::run_codes(std::span<const std::vector<std::uint8_t>> images,
                              std::uint64_t count,
                              const std::function<void(std::uint64_t, Answer)>& answer) {
  Round round(images, count);
  Collect collect(answer);
  host::Done done = engine_->run(round, collect);
  collect.rethrow();
  return done;
}

std::vector<std::vector<std::uint8_t>> random_images(const model::Plan& plan) {
  const std::vector<std::string> names{"random:64"};
  const InputSet inputs(plan, names);
  std::size_t bytes = 0;
  for (const model::TensorId id : plan.inputs) bytes += plan.tensors[id].shape.elements();
  std::vector<std::vector<std::uint8_t>> out(inputs.count());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].resize(bytes);
    to_codes(plan, inputs.get(i), out[i]);
  }
  return out;
}

void Tally::count(const Answer& answer) {
  if (!answer.error) {
    ++done;
    return;
  }
  ++(answer.error->code == Errc::kRejected ? rejected : failed);
  if (!first) first = answer.error;
}

void finish(const Tally& tally, const host::Done& done) {
  if (tally.rejected > 0) {
    throw Stop(Errc::kRejected,
               fmt::format("the check of {} of {} images failed: a device answered wrongly, and "
                           "nothing of them was released; do not use that device",
                           tally.rejected, tally.done + tally.rejected + tally.failed));
  }
  if (!done.ok()) throw Stop(done.failure());
  if (tally.failed > 0) {
    throw Stop(tally.first->code, fmt::format("{} of {} images got no answer ({})", tally.failed,
                                              tally.done + tally.failed, tally.first->message));
  }
}

}  // namespace slalom::cli
