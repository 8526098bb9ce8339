// SPDX-License-Identifier: Apache-2.0
// slalom-device: a device worker. It loads a plan's linear layers into one device and computes what
// is asked of it over channel segments that a host hands to it, or over TCP by such a worker of
// another machine. Nobody has to believe its answers.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "device/make_device.h"
#include "device/remote/address.h"
#include "device/remote/listener.h"
#include "outside.h"
#include "untrusted/host/device_worker.h"
#include "untrusted/host/outcome.h"
#include "untrusted/host/plan_file.h"
#include "untrusted/host/unix_socket.h"
#include "worker/handover.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file
using host::Failure;

constexpr std::string_view kUsage =
    "usage: slalom-device --device WHAT --plan FILE (--listen PATH | --channel-fd N)\n"
    "                     [--max-batch N] [--threads N] [--streams N] [--trace FILE]\n"
    "       slalom-device --device WHAT --listen HOST:PORT [--plan FILE] [--max-batch N]\n"
    "                     [--threads N]\n"
    "\n"
    "Computes a plan's linear layers for a trusted process, which checks every answer.\n"
    "  --device WHAT       what computes: cpu (this machine's processor), cuda:N (NVIDIA GPU N), "
    "or,\n"
    "                      without --listen HOST:PORT, tcp:HOST:PORT (a worker that listens "
    "there)\n"
    "  --plan FILE         the network (slalom convert, slalom model); over TCP the only one "
    "served\n"
    "  --listen PATH       serve the hosts that connect to this Unix socket, one after another:\n"
    "                      slalom run ... --device unix:PATH\n"
    "  --listen HOST:PORT  serve other machines over TCP, one after another, with any plan:\n"
    "                      slalom run ... --device tcp:HOST:PORT\n"
    "  --channel-fd N      serve the host at the other end of this inherited socket\n"
    "  --max-batch N       the largest micro-batch (default 4; over TCP, what the host asks for)\n"
    "  --threads N         threads (default: one for each processor)\n"
    "  --streams N         connections to the worker of tcp: (default 4)\n"
    "  --trace FILE        write a timeline of the jobs when the host goes (for "
    "ui.perfetto.dev)\n";

struct Arguments {
  std::string device;
  std::string plan;
  std::string listen;  // a path, or
  std::optional<device::remote::Address> address;
  int channel_fd = -1;
  std::size_t max_batch = 4;
  std::size_t threads = 0;
  std::size_t streams = 4;
  std::string trace;
};

template <class T>
bool parse_number(std::string_view text, T least, T most, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size() && out >= least && out <= most;
}

std::optional<Arguments> parse(int count, char** values) {
  Arguments out;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string_view name = values[i];
    const std::string_view value = values[i + 1];
    bool good = true;
    if (name == "--device") {
      out.device = value;
    } else if (name == "--plan") {
      out.plan = value;
    } else if (name == "--listen") {
      // A path of a socket that looks like an address can be written ./HOST:PORT.
      out.address = device::remote::parse_address(value);
      if (!out.address) out.listen = value;
    } else if (name == "--trace") {
      out.trace = value;
    } else if (name == "--channel-fd") {
      good = parse_number(value, 0, 1 << 20, out.channel_fd);
    } else if (name == "--max-batch") {
      good = parse_number<std::size_t>(value, 1, 1024, out.max_batch);
    } else if (name == "--threads") {
      good = parse_number<std::size_t>(value, 1, 1024, out.threads);
    } else if (name == "--streams") {
      good = parse_number<std::size_t>(value, 1, device::remote::kMostStreams, out.streams);
    } else {
      good = false;
    }
    if (!good) return std::nullopt;
  }
  const int ways =
      (out.listen.empty() ? 0 : 1) + (out.address ? 1 : 0) + (out.channel_fd < 0 ? 0 : 1);
  if (count % 2 == 0 || !host::is_device(out.device) || out.device.starts_with("unix:") ||
      ways != 1 || (out.address && !out.trace.empty()) ||
      (out.address ? !host::computes_here(out.device) : out.plan.empty())) {
    return std::nullopt;
  }
  return out;
}

// Loaded is a device that is ready, or why there is none.
struct Loaded {
  std::unique_ptr<device::Device> device;
  std::shared_ptr<const model::Plan> plan;
  worker::Greeting greeting;
};

Result<std::unique_ptr<device::Device>> make_device(const Arguments& arguments) {
  const std::size_t threads = arguments.threads != 0
                                  ? arguments.threads
                                  : std::max(1U, outside::process_state().processors);
  return device::make_device(arguments.device, threads, arguments.streams);
}

host::Outcome<Loaded> load(const Arguments& arguments) {
  auto file = host::read_plan_file(arguments.plan);
  if (!file) return file.failure();
  Loaded out;
  auto made = make_device(arguments);
  if (!made) return Failure{made.error().code, made.error().message};
  out.device = std::move(*made);
  if (const Status loaded = out.device->load(file->plan, arguments.max_batch); !loaded.ok()) {
    return Failure{loaded.error().code, loaded.error().message};
  }
  out.greeting.max_batch = static_cast<std::uint32_t>(arguments.max_batch);
  out.greeting.digest = file->digest;
  out.plan = file->plan;
  return out;
}

int fail(const Failure& failure) {
  static_cast<void>(std::fprintf(stderr, "slalom-device: %s\n", failure.message.c_str()));
  return host::exit_code(failure.code);
}

void serve(int socket, Loaded& loaded, const Arguments& arguments) {
  if (!worker::send_greeting(socket, loaded.greeting).ok()) return;
  if (arguments.trace.empty()) {
    worker::serve_host(socket, *loaded.device);
    return;
  }
  worker::Trace trace;
  loaded.device->record_spans();
  worker::serve_host(socket, *loaded.device, &trace);
  const std::string text = trace.text(arguments.device, *loaded.plan, loaded.device->depth());
  if (const Status written = worker::Trace::write(arguments.trace, text); !written.ok()) {
    static_cast<void>(
        fail({written.error().code, arguments.trace + ": " + written.error().message}));
  }
}

// serve_tcp serves other machines until the process is ended.
int serve_tcp(const Arguments& arguments) {
  auto socket = device::remote::listen_at(*arguments.address);
  if (!socket) {
    return fail({socket.error().code, "cannot listen at " + arguments.address->host + ", port " +
                                          arguments.address->port + ": " + socket.error().message});
  }
  // Better said now than to the first client.
  if (const auto made = make_device(arguments); !made) {
    return fail({made.error().code, arguments.device + ": " + made.error().message});
  }
  const std::string where = device::remote::bound_address(socket->get());
  device::remote::ListenerOptions options{.make_device = [&] { return make_device(arguments); }};
  if (!arguments.plan.empty()) {
    auto file = host::read_plan_file(arguments.plan);
    if (!file) return fail(file.failure());
    options.plan = file->plan;
    options.digest = file->digest;
  }
  device::remote::Listener listener(std::move(*socket), options);
  if (options.plan != nullptr) {
    if (const Status loaded = listener.load(arguments.max_batch); !loaded.ok()) {
      return fail({loaded.error().code, loaded.error().message});
    }
  }
  static_cast<void>(std::printf("%s serves tcp:%s\n", arguments.device.c_str(), where.c_str()));
  static_cast<void>(std::fflush(stdout));
  const Status ended = listener.serve();
  return ended.ok() ? 0 : fail({ended.error().code, ended.error().message});
}

}  // namespace

int main(int count, char** values) try {
  if (count == 2 && std::string_view(values[1]) == "--help") {
    static_cast<void>(std::fwrite(kUsage.data(), 1, kUsage.size(), stdout));
    return 0;
  }
  const auto arguments = parse(count, values);
  if (!arguments) {
    static_cast<void>(std::fwrite(kUsage.data(), 1, kUsage.size(), stderr));
    return 1;
  }
  if (arguments->address) return serve_tcp(*arguments);
  outside::Descriptor listener;
  if (!arguments->listen.empty()) {
    auto made = host::listen_at(arguments->listen);
    if (!made) return fail(made.failure());
    listener = std::move(*made);
  }
  const outside::Descriptor socket(arguments->channel_fd);
  auto loaded = load(*arguments);
  if (!loaded) {
    const Failure& failure = loaded.failure();
    if (!socket.valid()) return fail({failure.code, arguments->device + ": " + failure.message});
    static_cast<void>(worker::send_greeting(
        socket.get(),
        {.status = static_cast<std::uint32_t>(failure.code), .reason = failure.message}));
    return host::exit_code(failure.code);
  }
  if (socket.valid()) {
    serve(socket.get(), *loaded, *arguments);
    return 0;
  }
  for (;;) {
    const auto client = outside::wait_for_connection(listener.get(), -1);
    if (!client) return fail({client.error().code, client.error().message});
    serve(client->get(), *loaded, *arguments);
  }
} catch (const std::exception& e) {
  return fail({Errc::kInternal, e.what()});
}
