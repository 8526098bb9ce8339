// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/engine.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <iterator>
#include <limits>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "untrusted/host/control_client.h"
#include "untrusted/host/device_worker.h"
#include "untrusted/host/plan_file.h"
#include "untrusted/host/process.h"
#include "untrusted/host/processors.h"
#include "untrusted/host/unix_socket.h"

namespace slalom::host {

std::string_view isa_name(const base::CpuFeatures& cpu) noexcept {
  if (cpu.amx_int8) return "AMX";
  if (cpu.avx512_vnni) return "AVX-512 VNNI";
  if (cpu.avx512) return "AVX-512";
  if (cpu.avx2) return "AVX2";
  if (cpu.sse41) return "SSE4.1";
  return "x86-64";
}

namespace {

// How long a process that others attach to may take to load its plan.
constexpr std::chrono::seconds kStartTime{60};

// open_pad_store opens or makes the file of a pad store. An earlier one is emptied by the trusted
// process, so nothing else may be in it, and no other process may use it; `again`: the trusted
// process holds it already, and its lock.
Outcome<outside::Descriptor> open_pad_store(const std::string& path, bool again) {
  constexpr std::string_view kBegins = "SLALOMPS";  // docs/vault-format.md
  outside::Descriptor store(
      open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  const auto refuse = [&path](const std::string& why) {
    return Failure{Errc::kInvalidArgument, "cannot open the pad store '" + path + "': " + why};
  };
  if (!store.valid()) return refuse(std::generic_category().message(errno));
  struct stat info {};
  if (fstat(store.get(), &info) != 0 || !S_ISREG(info.st_mode)) return refuse("it is no file");
  std::array<char, kBegins.size()> begins{};
  const bool ours = pread(store.get(), begins.data(), begins.size(), 0) == std::ssize(begins) &&
                    (std::string_view(begins.data(), begins.size()) == kBegins ||
                     begins == std::array<char, kBegins.size()>{});  // killed before its header
  if (info.st_size > 0 && !ours) {
    return refuse("it holds something else, which would be lost; name another file");
  }
  // A process that was killed a moment ago may still be about to end.
  for (int tries = 40; !again && flock(store.get(), LOCK_EX | LOCK_NB) != 0; --tries) {
    if (errno != EWOULDBLOCK) break;  // a file system without locks
    if (tries == 0) return refuse("another process uses it; name another file");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return store;
}

// device_list checks EngineOptions::devices; "none" becomes an empty list.
Outcome<std::vector<std::string>> device_list(const std::vector<std::string>& specs) {
  if (specs.empty()) {
    return Failure{Errc::kInvalidArgument, "no device is named; say 'none' for none"};
  }
  if (specs.size() == 1 && specs[0] == "none") return std::vector<std::string>{};
  for (const std::string& spec : specs) {
    if (spec == "none") {
      return Failure{Errc::kInvalidArgument, "the device 'none' cannot be used beside others"};
    }
    if (!is_device(spec)) {
      return Failure{Errc::kInvalidArgument,
                     "'" + spec +
                         "' is no device; there are none, cpu, cuda:N, unix:PATH and "
                         "tcp:HOST:PORT"};
    }
  }
  if (specs.size() > session::kMaxDevices) {
    return Failure{Errc::kInvalidArgument,
                   "at most " + std::to_string(session::kMaxDevices) + " devices can be used"};
  }
  return specs;
}

// to_message turns Modes into the wire's Configure, or says which option cannot be sent.
Outcome<session::Configure> to_message(const Modes& modes) {
  const runtime::Options& o = modes.options;
  const auto wrong = [](const char* what) {
    return Failure{Errc::kInvalidArgument, std::string(what) + " is out of range"};
  };
  if (o.soundness_bits < 1 || o.soundness_bits > 256) return wrong("the soundness (1 to 256 bits)");
  if (o.threads > 1024) return wrong("the number of trusted threads (at most 1024)");
  if (o.micro_batch < 1 || o.micro_batch > 256) return wrong("the micro-batch (1 to 256)");
  if (o.in_flight < 1 || o.in_flight > 64) return wrong("the number of micro-batches (1 to 64)");
  if (o.timeout.count() < 1 || o.timeout.count() > 3'600'000) return wrong("the time-out");
  session::Configure out{.integrity = o.integrity,
                         .privacy = o.privacy,
                         .when_dry = modes.when_dry,
                         .soundness_bits = o.soundness_bits,
                         .threads = static_cast<std::uint32_t>(o.threads),
                         .micro_batch = static_cast<std::uint32_t>(o.micro_batch),
                         .in_flight = static_cast<std::uint32_t>(o.in_flight),
                         .timeout_ms = static_cast<std::uint32_t>(o.timeout.count()),
                         .bind = o.bind};
  if (modes.placement) {
    for (const bool remote : modes.placement->remote) out.remote.push_back(remote ? 1 : 0);
  }
  return out;
}

// available_memory is what Linux thinks that programs can still take, in bytes.
std::uint64_t available_memory() {
  std::ifstream info("/proc/meminfo");
  for (std::string name, unit; std::getline(info, name, ':');) {
    std::uint64_t kib = 0;
    info >> kib;
    if (name == "MemAvailable") return kib * 1024;
    std::getline(info, unit);
  }
  return 0;
}

// free_bytes of the file system where a path lies, or, without one, of memory; 0 if nobody knows.
std::uint64_t free_bytes(const std::string& path) {
  struct statvfs status {};
  if (path.empty()) return available_memory();
  if (statvfs(path.c_str(), &status) != 0) return 0;
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

class RunningEngine final : public Engine {
 public:
  // Either of a process that this engine starts, or of one that it attaches to.
  explicit RunningEngine(EngineOptions options) : options_(std::move(options)) {}
  ~RunningEngine() override;

  Done start();
  Done attach(const std::string& socket_path);

  Done run(runtime::Source& source, runtime::Sink& sink) override;
  Done reconfigure(const Modes& modes) override;
  Outcome<runtime::Stats> stats() override { return explained(client_->statistics()); }
  Outcome<PadStock> pad_stock() override;
  Outcome<std::uint64_t> prepare(std::uint64_t count, const Progress& progress) override;
  Outcome<Report> report() override;
  [[nodiscard]] MemoryUse memory() const override;
  Done shutdown() override { return explained(client_->shutdown()); }
  [[nodiscard]] const model::Digest& digest() const noexcept override { return digest_; }
  [[nodiscard]] const model::Plan* plan() const noexcept override { return plan_.get(); }

 private:
  Done start_trusted();
  Done load(const PlanFile& file);
  Done set_modes(const Modes& wanted);
  [[nodiscard]] Shares shares(const Modes& modes) const {
    Shares out = share_processors(modes.options.threads, options_.device_threads, options_.devices);
    if (!options_.bind) out = {.trusted_threads = out.trusted_threads};
    return out;
  }
  Done send_configuration(const Modes& modes);
  Done begin_devices(const Modes& modes);
  Done attach_devices();
  [[nodiscard]] bool keeps_pads(const Modes& modes) const;
  // explained adds how the trusted process ended to a failure that it caused by ending.
  Failure explained(Failure failure);
  template <class T>
  Outcome<T> explained(Outcome<T> outcome) {
    if (outcome) return outcome;
    return explained(outcome.failure());
  }

  EngineOptions options_;
  std::vector<DeviceWorker> devices_;
  Child trusted_;
  std::unique_ptr<ControlClient> client_;
  outside::Descriptor listener_;
  std::shared_ptr<const model::Plan> plan_;
  model::Digest digest_{};
  std::uint64_t input_bytes_ = 0;
  std::optional<Modes> modes_;  // in force
  std::string empty_store_;     // a file that was made for pads and has held none
};

RunningEngine::~RunningEngine() {
  if (!empty_store_.empty()) unlink(empty_store_.c_str());
  if (listener_.valid()) unlink(options_.listen.c_str());
}

Done RunningEngine::start() {
  auto specs = device_list(options_.devices);
  if (!specs) return specs.failure();
  auto file = read_plan_file(options_.plan_file);
  if (!file) return file.failure();
  plan_ = file->plan;
  const std::string device_program =
      options_.device_program.empty() ? program_beside("slalom-device") : options_.device_program;
  for (const std::string& spec : *specs) {
    const std::string trace = options_.trace + "/" + std::to_string(devices_.size()) + ".json";
    devices_.emplace_back(DeviceWorker::Setup{.spec = spec,
                                              .program = device_program,
                                              .plan_file = options_.plan_file,
                                              .digest = file->digest,
                                              .threads = options_.device_threads,
                                              .streams = options_.device_streams,
                                              .trace = options_.trace.empty() ? "" : trace});
  }
  // The workers load their copy while the trusted process loads its own.
  if (Done begun = begin_devices(options_.modes); !begun) return begun;
  if (Done started = start_trusted(); !started) return started;
  if (Done loaded = load(*file); !loaded) return loaded;
  return set_modes(options_.modes);
}

Done RunningEngine::start_trusted() {
  std::array<int, 2> ends{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return Failure{Errc::kUnavailable,
                   std::string("no socket: ") + std::generic_category().message(errno)};
  }
  client_ = std::make_unique<ControlClient>(outside::Descriptor(ends[0]));
  const outside::Descriptor theirs(ends[1]);
  std::vector<int> passed{theirs.get()};
  std::vector<std::string> arguments{"--control-fd", "3"};
  if (!options_.listen.empty()) {
    auto listener = listen_at(options_.listen);
    if (!listener) return listener.failure();
    listener_ = std::move(*listener);
    passed.push_back(listener_.get());
    arguments.insert(arguments.end(), {"--listen-fd", "4"});
  }
  auto child = Child::spawn(options_.trusted_program.empty() ? program_beside("slalom-trusted")
                                                             : options_.trusted_program,
                            arguments, passed);
  if (!child) return child.failure();
  trusted_ = std::move(*child);
  return {};
}

Done RunningEngine::load(const PlanFile& file) {
  if (const auto welcome = explained(client_->hello()); !welcome) {
    // Its only way to say why it does not start (src/trusted/main.cc).
    if (trusted_.how_it_ended() != "ended with status 4") return welcome.failure();
    return Failure{Errc::kUnavailable,
                   "the trusted process cannot lock its keys into memory, or the system has no "
                   "randomness for them; raise the limit (ulimit -l; see slalom doctor)"};
  }
  const auto loaded = explained(client_->load(file.bytes));
  if (!loaded) return loaded.failure();
  if (loaded->digest != file.digest) {
    return Failure{Errc::kInternal, "the trusted process and the host disagree about the plan"};
  }
  digest_ = loaded->digest;
  input_bytes_ = loaded->input_bytes;
  return {};
}

// The socket is there from the process's first moment: one that still loads its plan is waited for.
Done RunningEngine::attach(const std::string& socket_path) {
  const auto end = std::chrono::steady_clock::now() + kStartTime;
  for (;;) {
    auto socket = connect_to(socket_path);
    if (!socket) return socket.failure();
    client_ = std::make_unique<ControlClient>(std::move(*socket));
    const auto welcome = client_->hello();
    if (!welcome) return welcome.failure();
    if (welcome->state == session::State::kStarted) {
      digest_ = welcome->digest;
      input_bytes_ = welcome->input_bytes;
      return {};
    }
    if (std::chrono::steady_clock::now() >= end) {
      return Failure{Errc::kUnavailable,
                     "the trusted process at '" + socket_path + "' did not finish starting"};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

Done RunningEngine::set_modes(const Modes& wanted) {
  Modes modes = wanted;
  const Shares shares = this->shares(wanted);
  modes.options.threads = shares.trusted_threads;
  modes.options.bind = shares.bind_trusted;
  if (Done sent = send_configuration(modes); !sent) return sent;
  if (Done attached = attach_devices(); !attached) return attached;
  modes_ = modes;
  return {};
}

Done RunningEngine::send_configuration(const Modes& modes) {
  auto message = to_message(modes);
  if (!message) return message.failure();
  outside::Descriptor store;
  if (keeps_pads(modes)) {
    message->store = session::StoreUse::kKeep;
  } else if (modes.options.privacy == model::Privacy::kPads && !modes.pad_store.empty()) {
    const bool again = modes_ && modes_->pad_store == modes.pad_store;
    const bool fresh = access(modes.pad_store.c_str(), F_OK) != 0;
    auto opened = open_pad_store(modes.pad_store, again);
    if (!opened) return opened.failure();
    if (fresh) empty_store_ = modes.pad_store;
    store = *std::move(opened);
    message->store = session::StoreUse::kPassed;
  }
  return explained(client_->configure(*message, store.get()));
}

bool RunningEngine::keeps_pads(const Modes& modes) const {
  const auto placement_of = [](const Modes& m) {
    return m.placement ? m.placement->remote : std::vector<bool>{};
  };
  return modes_ && modes_->options.privacy == model::Privacy::kPads &&
         modes.options.privacy == model::Privacy::kPads && modes_->pad_store == modes.pad_store &&
         modes_->when_dry == modes.when_dry && placement_of(*modes_) == placement_of(modes);
}

Done RunningEngine::begin_devices(const Modes& modes) {
  const OnProcessors restricted(shares(modes).workers);
  for (DeviceWorker& device : devices_) {
    if (Done begun = device.begin(modes.options.micro_batch); !begun) return begun;
  }
  return {};
}

Done RunningEngine::attach_devices() {
  std::vector<outside::Descriptor> segments;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    auto attached = explained(client_->attach_device());
    if (!attached) return attached.failure();
    segments.push_back(std::move(attached->segment));
  }
  if (const auto started = explained(client_->start()); !started) return started.failure();
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if (Done ready = devices_[i].ready(); !ready) return ready;
    if (Done serving = devices_[i].serve(std::move(segments[i])); !serving) return serving;
  }
  return {};
}

Done RunningEngine::run(runtime::Source& source, runtime::Sink& sink) {
  empty_store_.clear();
  std::vector<Watched> watched;
  for (DeviceWorker& device : devices_) watched.push_back(device.watched());
  Done done =
      client_->run(source, sink, static_cast<std::size_t>(input_bytes_), std::move(watched));
  if (done) return done;
  Failure failure = explained(done.failure());
  for (DeviceWorker& device : devices_) {
    const std::string how = device.obituary();
    if (!how.empty()) failure.message += " (" + how + ")";
  }
  return failure;
}

Done RunningEngine::reconfigure(const Modes& modes) {
  if (!modes_) {
    return Failure{Errc::kInvalidArgument,
                   "only the engine that started the trusted process can change its modes"};
  }
  if (const auto message = to_message(modes); !message) return message.failure();
  if (Done begun = begin_devices(modes); !begun) return begun;
  if (Done reset = explained(client_->reset()); !reset) return reset;
  return set_modes(modes);
}

Outcome<PadStock> RunningEngine::pad_stock() {
  const auto stock = explained(client_->stock());
  if (!stock) return stock.failure();
  return PadStock{stock->images, stock->bytes_per_image, modes_ ? free_bytes(modes_->pad_store) : 0,
                  stock->dead_stock};
}

Outcome<std::uint64_t> RunningEngine::prepare(std::uint64_t count, const Progress& progress) {
  const auto stock = pad_stock();
  if (!stock) return stock.failure();
  const std::uint64_t each = std::max<std::uint64_t>(stock->bytes_per_image, 1);
  if (modes_ && count > stock->free_bytes / each) {
    const bool memory = modes_->pad_store.empty();
    return Failure{Errc::kUnavailable,
                   (memory ? "memory" : "the disk of '" + modes_->pad_store + "'") +
                       " has room for " + std::to_string(stock->free_bytes / each) + " pads of " +
                       std::to_string(each) + " bytes, not for " + std::to_string(count) +
                       (memory ? "; a file may have more: --pad-store FILE" : "")};
  }
  auto made = explained(client_->prepare(count, progress));
  if (made) empty_store_.clear();
  return made;
}

Outcome<Report> RunningEngine::report() {
  const auto r = explained(client_->report());
  if (!r) return r.failure();
  Report out;
  out.cpu = r->cpu;
  out.isa = isa_name(out.cpu);
  out.processors = r->processors;
  out.lock_limit = r->lock_limit;
  out.memory_bytes = r->memory_bytes;
  out.dumpable = r->dumpable;
  out.core_dumps = r->core_dumps;
  out.control_version = r->version;
  return out;
}

MemoryUse RunningEngine::memory() const {
  MemoryUse out;
  if (trusted_.pid() > 0) out.trusted = memory_of(trusted_.pid());
  for (const DeviceWorker& device : devices_) out.workers.push_back(device.memory());
  return out;
}

Failure RunningEngine::explained(Failure failure) {
  if (client_->lost() && trusted_.pid() > 0) {
    failure.message += ": it " + trusted_.how_it_ended();
  }
  return failure;
}

}  // namespace

Outcome<std::unique_ptr<Engine>> Engine::start(const EngineOptions& options) {
  auto engine = std::make_unique<RunningEngine>(options);
  if (const Done started = engine->start(); !started) return started.failure();
  return std::unique_ptr<Engine>(std::move(engine));
}

Outcome<std::unique_ptr<Engine>> Engine::attach(const std::string& socket_path) {
  auto engine = std::make_unique<RunningEngine>(EngineOptions{});
  if (const Done attached = engine->attach(socket_path); !attached) return attached.failure();
  return std::unique_ptr<Engine>(std::move(engine));
}

Outcome<model::Plan> read_plan(const std::string& path) {
  auto file = read_plan_file(path);
  if (!file) return file.failure();
  return *file->plan;
}

}  // namespace slalom::host
