// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "channel/port.h"
#include "field/random.h"
#include "model/mode.h"
#include "model/plan.h"
#include "slalom/result.h"
#include "vault/pads.h"

namespace slalom::runtime {

struct Options {
  model::Integrity integrity = model::Integrity::kPreprocessed;
  model::Privacy privacy = model::Privacy::kOff;
  std::uint32_t soundness_bits = 40;          // the least that a verdict must be worth
  std::size_t threads = 1;                    // trusted threads
  bool bind = false;                          // each to a processor of its own
  std::size_t micro_batch = 4;                // images that share one request
  std::size_t in_flight = 3;                  // micro-batches at work at the same time
  std::chrono::milliseconds timeout{10'000};  // for one answer of a device
  base::CpuFeatures cpu;
};

// Placement says for each plan node whether a device computes it. Only Linear nodes that have a
// field may be remote.
struct Placement {
  std::vector<bool> remote;
};

// OutputView is one output of one image: u8 codes or int32 integers as the plan's tensor says.
struct OutputView {
  model::TensorId tensor = 0;
  std::span<const std::uint8_t> codes;
  std::span<const std::int32_t> integers;
};

// Source and Sink stream any number of images through the executor; memory does not grow with them.
class Source {
 public:
  virtual ~Source() = default;
  // next writes the input codes of the next image (plan.inputs concatenated) and returns true, or
  // returns false when there are no more.
  virtual bool next(std::span<std::uint8_t> codes) = 0;
};
class Sink {
 public:
  virtual ~Sink() = default;
  // deliver is called once an image's verdict is in, in order of images. The views die on return.
  virtual void deliver(std::uint64_t image, std::span<const OutputView> outputs) = 0;
  // fail is called instead when nothing may be released for this image.
  virtual void fail(std::uint64_t image, Error error) = 0;
};

// StepTime is what the steps that begin with one node took, over all images.
struct StepTime {
  std::uint32_t node = 0;        // kInputs: the step that takes the images in
  std::uint64_t trusted_ns = 0;  // of the step: the node, what is fused with it, what it sends
  std::uint64_t device_ns = 0;   // of a remote layer, as the devices say
  std::uint64_t sent = 0;        // elements that the step sends for each image
  static constexpr std::uint32_t kInputs = ~0U;
};

struct Stats {
  std::uint64_t images = 0;
  std::uint64_t checks_performed = 0;  // remote layers x images
  std::uint64_t checks_failed = 0;     // images rejected (which layer is never told)
  std::uint32_t layers_checked = 0;    // remote layers of an image
  double soundness_bits = 0;           // of the forms in use; 0 with integrity off
  std::uint64_t pads_used = 0;
  std::uint64_t pads_inline = 0;  // of these, computed while the request waited
  double wall_s = 0, trusted_s = 0, wait_s = 0, device_s = 0, pad_s = 0;
  std::uint64_t bytes_out = 0, bytes_in = 0;
  std::vector<StepTime> steps;  // in the order of work
};

// Executor runs one plan in the trusted process: it owns the order of calls, every check and every
// non-linear operator. Created once per loaded plan; no allocation per inference. One run at a
// time.
class Executor {
 public:
  virtual ~Executor() = default;
  // create prepares everything: tables, challenge sets, engines of local layers, all memory. The
  // plan must be valid (decoded); plan, ports and pads must outlive the executor. ports: the
  // devices, all of which loaded this plan, each with room for port_bytes; empty means that every
  // layer is computed inside, whatever the placement says. pads: required with privacy. random:
  // where challenges come from; null (outside of tests always) is the system's generator.
  // kInvalidArgument: an option, a placement; kUnavailable: no memory, no generator, no slot.
  [[nodiscard]] static Result<std::unique_ptr<Executor>> create(
      const model::Plan& plan, const Placement& placement, const Options& options,
      std::span<channel::Port* const> ports, vault::Pads* pads, field::Random* random = nullptr);

  // run streams images until the source ends. An error of one image goes to the sink; run itself
  // fails only when no device is left that work could go on with.
  [[nodiscard]] virtual Status run(Source& source, Sink& sink) = 0;
  [[nodiscard]] virtual Stats stats() const noexcept = 0;
};

// port_bytes is the size of the data area that each port must offer to an executor of these
// options. REQUIRES: a valid plan and placement.
[[nodiscard]] std::size_t port_bytes(const model::Plan& plan, const Placement& placement,
                                     const Options& options);

// check_placement says whether a placement fits the plan: kInvalidArgument if it has not one choice
// for each node, or sends out a node that must stay.
[[nodiscard]] Status check_placement(const model::Plan& plan, const Placement& placement);

// default_placement sends every Linear that has a field to the device.
[[nodiscard]] Placement default_placement(const model::Plan& plan);

}  // namespace slalom::runtime
