// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/failure.h"
#include "cli/terminal.h"
#include "untrusted/host/engine.h"

namespace slalom::cli {
namespace {

struct Options {
  std::string socket;
  std::uint64_t count = 0;
};

int pads(const Options& o) {
  const auto engine = unwrap(host::Engine::attach(o.socket));
  const host::PadStock before = unwrap(engine->pad_stock());
  // Where they will lie, and how much room there is, only the process knows that they are made in.
  fmt::print("in stock: {}; making {} more: {} an image, {} in all\n", human_count(before.images),
             human_count(o.count), human_bytes(before.bytes_per_image),
             human_bytes(before.bytes_per_image * o.count));
  static_cast<void>(std::fflush(stdout));  // main looks at what was printed
  {
    Progress progress("Making pads", o.count);
    unwrap(engine->prepare(o.count, [&](std::uint64_t made, std::uint64_t) {
      progress.set(made);
      return true;
    }));
  }
  // What waited for them may have used them and ended by now.
  const auto after = engine->pad_stock();
  if (after) fmt::print("in stock: {}\n", human_count(after->images));
  return 0;
}

}  // namespace

Action define_pads(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("--attach", o->socket, "Socket of a running slalom (its --listen)")
      ->type_name("SOCKET")
      ->required();
  app.add_option("--count", o->count, "Pads to make: one hides one image, once")
      ->type_name("N")
      ->required()
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}));
  app.footer(
      "A pad lives as long as the trusted process that made it. If this is interrupted, what was "
      "made\nstays; run it again for the rest.\n\n"
      "Example:\n"
      "  slalom run net.slalom --input random:1000 --privacy pads --pads 0 --listen /tmp/s.sock &\n"
      "  slalom pads --attach /tmp/s.sock --count 100");
  return [o] { return pads(*o); };
}

}  // namespace slalom::cli
