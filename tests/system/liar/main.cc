// SPDX-License-Identifier: Apache-2.0
// slalom-liar: a device worker for tests and the demo that computes honestly and then lies. It
// speaks the same protocol as slalom-device and is never installed.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "channel/layout.h"
#include "device/make_device.h"
#include "system/liar/lies.h"
#include "system/liar/orders.h"
#include "untrusted/host/plan_file.h"
#include "untrusted/host/unix_socket.h"
#include "worker/endpoint.h"
#include "worker/handover.h"
#include "worker/worker.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file
using channel::Answer;
using channel::AnswerStatus;
using channel::Request;
using testing::Lie;
using testing::Orders;

constexpr std::string_view kUsage =
    "usage: slalom-liar --plan FILE --listen PATH [--lie NAME [--layer N]] [--orders-fd N]\n"
    "                   [--max-batch N] [--threads N] [--device cpu|cuda:N]\n"
    "A device worker that lies, for tests. NAME is one of:\n ";

constexpr std::uint32_t kLateMs = 30'000;  // where nobody orders otherwise

// Memory is what all connections remember: one device, and the last honest answers of every layer.
struct Memory {
  std::mutex mutex;
  std::shared_ptr<const model::Plan> plan;
  std::unique_ptr<device::Device> device;
  std::map<std::uint32_t, std::vector<std::byte>> last;
};

// Rewriter changes an answer's words back and forth for a while, in a thread of its own.
class Rewriter {
 public:
  ~Rewriter() {
    if (thread_.joinable()) thread_.join();
  }
  void start(std::span<std::byte> bytes) {
    if (thread_.joinable()) thread_.join();
    thread_ = std::thread([bytes] {
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(30);
      for (std::uint32_t turn = 0; std::chrono::steady_clock::now() < end; ++turn) {
        for (std::size_t i = turn % 3; i < bytes.size(); i += 3) {
          auto& byte = reinterpret_cast<volatile unsigned char&>(bytes[i]);
          byte = byte ^ 1;
        }
      }
    });
  }

 private:
  std::thread thread_;
};

// Connection serves one host, as its i-th liar.
class Connection {
 public:
  Connection(Memory& memory, Orders& orders, std::size_t index)
      : memory_(memory), orders_(orders), one_(orders.one[index]), random_(index) {}

  void serve(int socket) {
    for (;;) {
      auto segment = worker::receive_segment(socket);
      if (!segment) return;
      auto endpoint = worker::ShmEndpoint::open(std::move(*segment));
      if (!worker::acknowledge(socket, endpoint.ok()).ok()) return;
      if (endpoint.ok()) serve_segment(*endpoint, socket);
    }
  }

 private:
  void serve_segment(worker::ShmEndpoint& endpoint, int socket) {
    Rewriter rewriter;
    seen_ = 0;
    mute_ = false;
    held_.reset();
    while (!outside::readable(socket)) {
      const auto request = endpoint.next(std::chrono::milliseconds(20));
      if (!request) return;
      if (request->has_value() && !mute_) answer(endpoint, **request, rewriter);
    }
  }

  void answer(worker::ShmEndpoint& endpoint, const Request& request, Rewriter& rewriter) {
    const auto job = worker::job_of(endpoint, request);
    if (!job) return;
    std::vector<std::byte> before;
    std::vector<std::byte> other;
    Answer out = compute(request, *job, before, other);
    const Lie lie = order_for(request);
    if (lie == Lie::kNone || out.status != AnswerStatus::kDone) {
      finish(endpoint, out);
    } else if (lie <= Lie::kAboveP) {
      change(lie, request, *job, before, other);
      finish(endpoint, out);
    } else {
      misbehave(lie, endpoint, out, job->output, rewriter);
    }
  }

  Answer compute(const Request& request, const device::Job& job, std::vector<std::byte>& before,
                 std::vector<std::byte>& other) {
    const std::lock_guard lock(memory_.mutex);
    if (request.layer == orders_.watched) watch(job.input, request.batch);
    const bool done = memory_.device->run(job).ok();
    for (const auto& [layer, bytes] : memory_.last) {
      if (layer != request.layer) other = bytes;
    }
    auto& last = memory_.last[request.layer];
    before = last;
    if (done) last.assign(job.output.begin(), job.output.end());
    return {request.sequence, done ? AnswerStatus::kDone : AnswerStatus::kFailed,
            done ? request.output_bytes : 0, 1};
  }

  void watch(std::span<const std::byte> input, std::size_t batch) {
    const std::size_t size = input.size() / batch;
    for (std::size_t b = 0; b < batch && orders_.images < testing::kMaxSeen; ++b) {
      auto& seen = orders_.seen[orders_.images];
      std::copy_n(input.subspan(b * size).begin(), std::min(size, seen.size()), seen.begin());
      ++orders_.images;
    }
  }

  Lie order_for(const Request& request) {
    const std::uint32_t layer = orders_.layer;
    if (layer != testing::kAnyLayer && layer != request.layer) return Lie::kNone;
    return seen_++ < one_.skip ? Lie::kNone : one_.lie.load();
  }

  void change(Lie lie, const Request& request, const device::Job& job,
              const std::vector<std::byte>& before, const std::vector<std::byte>& other) {
    const auto& linear = std::get<model::Linear>(memory_.plan->nodes[request.layer].op);
    const std::vector<std::byte> honest(job.output.begin(), job.output.end());
    const testing::AnswerWords words{job.output, request.field, request.batch,
                                     linear.out().positions(), linear.out().c};
    testing::alter(lie, words, before, other, random_);
    // Small layers give equal answers to different images: then the lie would be the truth.
    if (std::equal(honest.begin(), honest.end(), job.output.begin())) {
      testing::alter(Lie::kElement, words, {}, {}, random_);
    }
    ++one_.told;
  }

  // finish announces an answer, and then the one that was held back for it.
  void finish(worker::ShmEndpoint& endpoint, const Answer& answer) {
    endpoint.answer(answer);
    if (held_) endpoint.answer(*std::exchange(held_, std::nullopt));
  }

  void misbehave(Lie lie, worker::ShmEndpoint& endpoint, Answer answer, std::span<std::byte> output,
                 Rewriter& rewriter) {
    if (lie == Lie::kOutOfOrder && held_) return finish(endpoint, answer);
    ++one_.told;
    switch (lie) {
      case Lie::kRewrite:
        rewriter.start(output);
        break;
      case Lie::kShort:
        --answer.output_bytes;
        break;
      case Lie::kLong:
        ++answer.output_bytes;
        break;
      case Lie::kSequence:
        ++answer.sequence;
        break;
      case Lie::kStatus:
        answer.status = static_cast<AnswerStatus>(7);
        break;
      case Lie::kTwice:
        endpoint.answer(answer);
        break;
      case Lie::kFailed:
        answer.status = AnswerStatus::kFailed;
        answer.output_bytes = 0;
        break;
      case Lie::kOutOfOrder:
        held_ = answer;
        return;
      case Lie::kLate:
        std::this_thread::sleep_for(std::chrono::milliseconds(orders_.late_ms));
        break;
      case Lie::kNever:
        mute_ = true;
        return;
      default:
        _exit(9);
    }
    finish(endpoint, answer);
  }

  Memory& memory_;
  Orders& orders_;
  Orders::One& one_;
  std::mt19937_64 random_;
  std::uint32_t seen_ = 0;  // requests of the ordered layer in this segment
  bool mute_ = false;
  std::optional<Answer> held_;
};

struct Arguments {
  std::string plan;
  std::string listen;
  Lie lie = Lie::kNone;
  std::uint32_t layer = testing::kAnyLayer;
  int orders_fd = -1;
  std::uint32_t max_batch = 64;
  std::uint32_t threads = 1;
  std::string device = "cpu";  // what computes before it lies
};

template <class T>
bool number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

std::optional<Arguments> parse(int count, char** values) {
  Arguments out;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string_view name = values[i];
    const std::string_view value = values[i + 1];
    bool good = true;
    if (name == "--plan") {
      out.plan = value;
    } else if (name == "--listen") {
      out.listen = value;
    } else if (name == "--lie") {
      const auto found = std::find(testing::kLieNames.begin(), testing::kLieNames.end(), value);
      good = found != testing::kLieNames.end();
      out.lie = static_cast<Lie>(found - testing::kLieNames.begin());
    } else if (name == "--layer") {
      good = number(value, out.layer);
    } else if (name == "--orders-fd") {
      good = number(value, out.orders_fd);
    } else if (name == "--max-batch") {
      good = number(value, out.max_batch) && out.max_batch > 0;
    } else if (name == "--device") {
      out.device = value;
    } else if (name == "--threads") {
      good = number(value, out.threads) && out.threads > 0;
    } else {
      good = false;
    }
    if (!good) return std::nullopt;
  }
  if (count % 2 == 0 || out.plan.empty() || out.listen.empty()) return std::nullopt;
  return out;
}

int usage() {
  static_cast<void>(std::fwrite(kUsage.data(), 1, kUsage.size(), stderr));
  for (const auto name : testing::kLieNames)
    static_cast<void>(std::fprintf(stderr, " %s", name.data()));
  static_cast<void>(std::fputc('\n', stderr));
  return 1;
}

int fail(const host::Failure& failure) {
  static_cast<void>(std::fprintf(stderr, "slalom-liar: %s\n", failure.message.c_str()));
  return host::exit_code(failure.code);
}

}  // namespace

int main(int count, char** values) {
  const auto arguments = parse(count, values);
  if (!arguments) return usage();
  auto file = host::read_plan_file(arguments->plan);
  if (!file) return fail(file.failure());
  // A liar under orders ends with the test that gives them, however that ends.
  if (arguments->orders_fd >= 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
  Memory memory;
  memory.plan = file->plan;
  auto made = device::make_device(arguments->device, arguments->threads);
  if (!made) return fail({made.error().code, made.error().message});
  memory.device = std::move(*made);
  if (const Status loaded = memory.device->load(file->plan, arguments->max_batch); !loaded.ok()) {
    return fail({loaded.error().code, loaded.error().message});
  }
  auto shared = arguments->orders_fd >= 0
                    ? outside::SharedMemory::map(outside::Descriptor(arguments->orders_fd))
                    : outside::SharedMemory::create(sizeof(Orders));
  if (!shared || shared->bytes().size() < sizeof(Orders)) {
    return fail({Errc::kInvalidArgument, "no orders"});
  }
  auto& orders = *reinterpret_cast<Orders*>(shared->bytes().data());
  if (arguments->orders_fd < 0) {
    orders.layer = arguments->layer;
    orders.late_ms = kLateMs;
    orders.watched = testing::kAnyLayer;
    for (auto& one : orders.one) one.lie = arguments->lie;
  }
  const auto listener = host::listen_at(arguments->listen);
  if (!listener) return fail(listener.failure());
  orders.ready = true;
  const worker::Greeting greeting{0, arguments->max_batch, file->digest};
  for (std::size_t next = 0;; ++next) {
    auto client = outside::wait_for_connection(listener->get(), -1);
    if (!client) return fail({client.error().code, client.error().message});
    std::thread([&, index = next % testing::kMaxLiars, socket = std::move(*client)] {
      Connection connection(memory, orders, index);
      if (worker::send_greeting(socket.get(), greeting).ok()) connection.serve(socket.get());
    }).detach();
  }
}
