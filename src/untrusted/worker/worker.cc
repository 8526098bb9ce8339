// SPDX-License-Identifier: Apache-2.0
#include "worker/worker.h"

#include <chrono>

namespace slalom::worker {

std::optional<device::Job> job_of(const ShmEndpoint& endpoint,
                                  const channel::Request& request) noexcept {
  const auto input = endpoint.slot(request.input_offset, request.input_bytes);
  const auto output = endpoint.slot(request.output_offset, request.output_bytes);
  if (!input || !output) return std::nullopt;
  return device::Job{.layer = request.layer,
                     .batch = request.batch,
                     .attempt = request.attempt,
                     .kind = request.kind,
                     .field = request.field,
                     .pad_code = request.pad_code,
                     .input = *input,
                     .output = *output};
}

Status serve(ShmEndpoint& endpoint, device::Device& device, const std::function<bool()>& stop) {
  using Clock = std::chrono::steady_clock;
  while (!stop()) {
    const auto request = endpoint.next(std::chrono::milliseconds(20));
    if (!request) {
      if (request.error().code == Errc::kUnavailable) return {};
      return request.error();
    }
    if (!request->has_value()) continue;
    const auto start = Clock::now();
    const auto job = job_of(endpoint, **request);
    const bool done = job && device.run(*job).ok();
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
    endpoint.answer({.sequence = (*request)->sequence,
                     .status = done ? channel::AnswerStatus::kDone : channel::AnswerStatus::kFailed,
                     .output_bytes = done ? (*request)->output_bytes : 0,
                     .device_ns = static_cast<std::uint64_t>(ns.count())});
  }
  return {};
}

}  // namespace slalom::worker
