// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "field/prime.h"
#include "model/plan.h"
#include "slalom/result.h"

// Exact integer linear layers on this CPU. The trusted process runs them for layers it keeps and
// for the pad factory; the CPU device worker runs the same engine. No result is ever approximate:
// before an implementation is chosen for a layer it is compared with plain loops on worst-case
// data.

namespace slalom::linear {

// kMaxTerms is the longest sum that an engine takes: K words of 31 bits times 8-bit weights stay
// below 2^62 then.
inline constexpr std::size_t kMaxTerms = std::size_t{1} << 24;

struct EngineOptions {
  base::CpuFeatures cpu;
  // The threads used inside one call and the scratch memory, shared by all engines that run one
  // after another (it is reserved at creation). The pool must outlive the engine.
  base::ThreadPool& pool;
  std::size_t max_batch = 1;  // images in one call
  bool prove = true;          // compare with plain loops at creation
};

// Engine is one Linear prepared for this CPU (weights packed, scratch reserved at creation; no call
// allocates). One thread at a time per Engine, and per pool. Every call expects MXCSR at its
// default.
class Engine {
 public:
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // run_codes computes Y = sum w*c for batch images of codes q (c = q - 128), taps outside the
  // input reading pad_code (a code q).  codes: batch * in.elements(), y: batch * out.elements(),
  // both channels last, image after image. 1 <= batch <= max_batch, here and below.
  virtual void run_codes(std::span<const std::uint8_t> codes, std::uint8_t pad_code,
                         std::size_t batch, std::span<std::int32_t> y) = 0;

  // run_words computes W x mod p on words (zero padding), exact for every input below p: the words
  // are cut into balanced limbs (field/prime.h). words and y: canonical residues, one uint32 each.
  virtual void run_words(field::Field f, std::span<const std::uint32_t> words, std::size_t batch,
                         std::span<std::uint32_t> y) = 0;

  // run_requant is run_codes followed by bias and requantisation as the plan states them, in one
  // pass. REQUIRES: the layer's output is u8 (zero_point, lo and hi in 0..255).
  virtual void run_requant(std::span<const std::uint8_t> codes, std::uint8_t pad_code,
                           std::size_t batch, std::span<std::uint8_t> out) = 0;

  // backend_name is for reports: "sse2", "avx2", "amx", ...
  [[nodiscard]] virtual std::string_view backend_name() const noexcept = 0;

 protected:
  Engine() = default;
};

// make_engine prepares a layer of a validated plan, which must outlive the engine. kInvalidArgument
// if a sum has more than kMaxTerms terms; kUnavailable if nothing computes the layer exactly on
// this CPU, which only a broken build or processor explains.
[[nodiscard]] Result<std::unique_ptr<Engine>> make_engine(const model::Linear& layer,
                                                          const EngineOptions& options);

}  // namespace slalom::linear
