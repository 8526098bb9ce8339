// SPDX-License-Identifier: Apache-2.0
#include "untrusted/planner/planner.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

namespace slalom::planner {
namespace {

using Clock = std::chrono::steady_clock;
using Codes = std::vector<std::vector<std::uint8_t>>;

class Round final : public runtime::Source {
 public:
  Round(const Codes& codes, std::uint64_t count) : codes_(codes), left_(count) {}
  bool next(std::span<std::uint8_t> out) override {
    if (left_ == 0) return false;
    const auto& image = codes_[--left_ % codes_.size()];
    std::copy(image.begin(), image.end(), out.begin());
    return true;
  }

 private:
  const Codes& codes_;
  std::uint64_t left_;
};

class First final : public runtime::Sink {
 public:
  void deliver(std::uint64_t, std::span<const runtime::OutputView>) override {}
  void fail(std::uint64_t, Error error) override {
    if (!error_) error_ = error;
  }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  std::optional<Error> error_;
};

// dear says that every image that is measured costs a pad, which takes longer than the image: then
// there are fewer of them.
bool dear(const host::Modes& modes) { return modes.options.privacy == model::Privacy::kPads; }
int rounds(const host::Modes& modes) { return dear(modes) ? 1 : 2; }

// timed runs so many images; a rejected one ends the planning.
host::Outcome<double> timed(host::Engine& engine, const host::Modes& modes, const Codes& codes,
                            std::uint64_t images) {
  if (dear(modes)) {
    if (const auto made = engine.prepare(images, {}); !made) return made.failure();
  }
  Round round(codes, images);
  First sink;
  const auto start = Clock::now();
  if (const host::Done done = engine.run(round, sink); !done) return done.failure();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (sink.error()) return host::Failure{sink.error()->code, sink.error()->message};
  return seconds;
}

host::Outcome<Sample> measure(host::Engine& engine, host::Modes modes,
                              const runtime::Placement& placement, double seconds,
                              const Codes& codes) {
  modes.placement = placement;
  if (const host::Done set = engine.reconfigure(modes); !set) return set.failure();
  const std::uint64_t pipeline = modes.options.micro_batch * modes.options.in_flight;
  const std::uint64_t first = dear(modes) ? 2 * modes.options.micro_batch : pipeline;
  const auto warm = timed(engine, modes, codes, first);
  if (!warm) return warm.failure();
  const double rate = static_cast<double>(first) / *warm;
  const auto before = engine.stats();
  if (!before) return before.failure();
  const auto images =
      std::max(pipeline, static_cast<std::uint64_t>(std::llround(std::ceil(rate * seconds))));
  const auto took = timed(engine, modes, codes, images);
  if (!took) return took.failure();
  auto after = engine.stats();
  if (!after) return after.failure();
  return Sample{placement, since(*before, *after), *took};
}

constexpr std::array kProbeNames{"all layers outside", "all layers inside",
                                 "every other layer outside", "the other layers outside"};

}  // namespace

namespace {

// each_pair calls what(a, b) for every count and every time of two looks at one engine.
template <class What>
void each_pair(runtime::Stats& a, const runtime::Stats& b, What what) {
  using S = runtime::Stats;
  for (const auto count : {&S::images, &S::checks_performed, &S::checks_failed, &S::pads_used,
                           &S::pads_inline, &S::bytes_out, &S::bytes_in}) {
    what(a.*count, b.*count);
  }
  for (const auto time : {&S::wall_s, &S::trusted_s, &S::wait_s, &S::device_s, &S::pad_s}) {
    what(a.*time, b.*time);
  }
  for (std::size_t i = 0; i < a.steps.size() && i < b.steps.size(); ++i) {
    what(a.steps[i].trusted_ns, b.steps[i].trusted_ns);
    what(a.steps[i].device_ns, b.steps[i].device_ns);
  }
}

}  // namespace

runtime::Stats since(const runtime::Stats& before, runtime::Stats now) {
  each_pair(now, before, [](auto& a, const auto& b) { a -= b; });
  return now;
}

void add(runtime::Stats& total, const runtime::Stats& more) {
  each_pair(total, more, [](auto& a, const auto& b) { a += b; });
}

namespace {

// contenders are the placements that may be the best one: the chosen one, everything inside, and
// the best of the others, as far as overrides allow them and they are not far behind.
std::vector<std::size_t> contenders(const Planned& planned, const Wanted& wanted) {
  constexpr double kFar = 0.7;
  constexpr std::size_t kInside = 1;  // in probes()
  const auto rate = [&](std::size_t i) { return planned.samples[i].rate(); };
  std::vector<std::size_t> out{planned.used};
  std::optional<std::size_t> other;
  for (std::size_t i = 0; i < planned.samples.size(); ++i) {
    const bool allowed = std::all_of(
        wanted.overrides.begin(), wanted.overrides.end(),
        [&](const Override& o) { return planned.samples[i].placement.remote[o.node] == o.remote; });
    if (i == planned.used || !allowed || rate(i) < kFar * rate(planned.used)) continue;
    if (i == kInside) {
      out.push_back(i);
    } else if (!other || rate(i) > rate(*other)) {
      other = i;
    }
  }
  if (other) out.push_back(*other);
  return out;
}

// settle lets the contenders run twice more (once where it is dear), in turn, and uses the one with
// the best median.
host::Done settle(host::Engine& engine, const host::Modes& modes, const Wanted& wanted,
                  const Codes& codes, const std::function<void(const std::string&)>& say,
                  Planned& planned) {
  const std::vector<std::size_t> few = contenders(planned, wanted);
  if (few.size() < 2) return {};
  if (say) say("comparing the best");
  std::vector<std::vector<Sample>> runs;
  runs.reserve(few.size());
  for (const std::size_t i : few) runs.push_back({planned.samples[i]});
  for (int round = 0; round < rounds(modes); ++round) {
    for (std::vector<Sample>& of_one : runs) {
      auto sample = measure(engine, modes, of_one[0].placement, wanted.seconds, codes);
      if (!sample) return sample.failure();
      of_one.push_back(*std::move(sample));
    }
  }
  for (std::size_t k = 0; k < few.size(); ++k) {
    std::sort(runs[k].begin(), runs[k].end(),
              [](const Sample& a, const Sample& b) { return a.rate() < b.rate(); });
    planned.samples[few[k]] = runs[k][runs[k].size() / 2];
    if (planned.samples[few[k]].rate() > planned.samples[planned.used].rate()) {
      planned.used = few[k];
    }
  }
  return {};
}

// choose_micro_batch runs the placement with each size, in turn, and takes another than that of the
// modes if its slower run is faster than the faster one of theirs.
host::Done choose_micro_batch(host::Engine& engine, const host::Modes& modes, const Wanted& wanted,
                              const Codes& codes,
                              const std::function<void(const std::string&)>& say,
                              Planned& planned) {
  struct Size {
    std::size_t images;
    double slowest = std::numeric_limits<double>::infinity();
    double fastest = 0;
  };
  std::vector<Size> sizes{{.images = planned.micro_batch,
                           .slowest = std::numeric_limits<double>::infinity(),
                           .fastest = planned.samples[planned.used].rate()}};
  for (const std::size_t images : wanted.micro_batches) sizes.push_back({images});
  if (sizes.size() < 2) return {};
  if (say) say("trying sizes of micro-batches");
  for (int round = 0; round < rounds(modes); ++round) {
    for (Size& size : sizes) {
      host::Modes other = modes;
      other.options.micro_batch = size.images;
      const auto sample = measure(engine, other, planned.placement, wanted.seconds, codes);
      if (!sample) return sample.failure();
      size.slowest = std::min(size.slowest, sample->rate());
      size.fastest = std::max(size.fastest, sample->rate());
    }
  }
  const auto best =
      std::max_element(sizes.begin() + 1, sizes.end(),
                       [](const Size& a, const Size& b) { return a.slowest < b.slowest; });
  if (best->slowest > sizes[0].fastest) planned.micro_batch = best->images;
  return {};
}

}  // namespace

host::Outcome<Planned> make_plan(host::Engine& engine, const host::Modes& modes,
                                 const Wanted& wanted, const Codes& codes,
                                 const std::function<void(const std::string&)>& say) {
  const model::Plan& plan = *engine.plan();
  Planned out;
  const auto add = [&](const runtime::Placement& placement, const std::string& name) -> host::Done {
    if (say) say("measuring " + name);
    auto sample = measure(engine, modes, placement, wanted.seconds, codes);
    if (!sample) return sample.failure();
    out.samples.push_back(*std::move(sample));
    return {};
  };
  const std::vector<runtime::Placement> tried = probes(plan);
  for (std::size_t i = 0; i < tried.size(); ++i) {
    if (host::Done done = add(tried[i], kProbeNames[i]); !done) return done.failure();
  }
  out.costs = fit(plan, out.samples, wanted.devices);
  const runtime::Placement chosen = choose(plan, out.costs, wanted.objective, wanted.overrides);
  const auto same = [&](const Sample& s) { return s.placement.remote == chosen.remote; };
  const auto known = std::find_if(out.samples.begin(), out.samples.end(), same);
  out.used = static_cast<std::size_t>(known - out.samples.begin());
  if (known == out.samples.end()) {
    if (host::Done done = add(chosen, "the placement that was chosen"); !done) {
      return done.failure();
    }
  }
  if (wanted.objective == Objective::kThroughput) {
    if (host::Done done = settle(engine, modes, wanted, codes, say, out); !done) {
      return done.failure();
    }
  }
  out.placement = out.samples[out.used].placement;
  out.micro_batch = modes.options.micro_batch;
  if (wanted.objective == Objective::kThroughput) {
    if (host::Done done = choose_micro_batch(engine, modes, wanted, codes, say, out); !done) {
      return done.failure();
    }
  }
  host::Modes final_modes = modes;
  final_modes.placement = out.placement;
  final_modes.options.micro_batch = out.micro_batch;
  if (const host::Done set = engine.reconfigure(final_modes); !set) return set.failure();
  return out;
}

}  // namespace slalom::planner
