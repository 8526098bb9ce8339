// SPDX-License-Identifier: Apache-2.0
#include "worker/trace.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <map>
#include <optional>

namespace slalom::worker {
namespace {

using Point = Trace::Clock::time_point;

std::string micros(Trace::Clock::duration time) {
  const double us = std::chrono::duration<double, std::micro>(time).count();
  std::array<char, 40> out{};
  static_cast<void>(std::snprintf(out.data(), out.size(), "%.3f", us));
  return out.data();
}

// quoted is a JSON string; what is not printable ASCII becomes a question mark.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c < ' ' || c > '~' ? '?' : c;
  }
  return out + '"';
}

std::string layer_name(const model::Plan& plan, std::uint32_t layer) {
  if (layer >= plan.nodes.size()) return "layer " + std::to_string(layer);
  const std::string& name = plan.nodes[layer].name;
  return name.empty() ? plan.tensors[plan.nodes[layer].output].name : name;
}

// Events collects the lines of a file.
class Events {
 public:
  void process(int process, const std::string& name) { meta(process, 0, "process_name", name); }
  void thread(int process, std::size_t thread, const std::string& name) {
    meta(process, thread, "thread_name", name);
  }
  void span(int process, std::size_t thread, const std::string& name, Point begin, Point end,
            const std::string& arguments) {
    line(R"({"ph":"X","pid":)" + std::to_string(process) + R"(,"tid":)" + std::to_string(thread) +
         R"(,"ts":)" + micros(begin.time_since_epoch()) + R"(,"dur":)" + micros(end - begin) +
         R"(,"name":)" + quoted(name) + R"(,"args":{)" + arguments + "}}");
  }
  [[nodiscard]] std::string text(std::uint64_t left_out) const {
    return "{\"traceEvents\":[\n" + lines_ +
           "\n],\"otherData\":{\"jobs_left_out\":" + std::to_string(left_out) + "}}\n";
  }

 private:
  void meta(int process, std::size_t thread, const char* what, const std::string& name) {
    line(R"({"ph":"M","pid":)" + std::to_string(process) + R"(,"tid":)" + std::to_string(thread) +
         R"(,"name":")" + what + R"(","args":{"name":)" + quoted(name) + "}}");
  }
  void line(const std::string& event) {
    if (!lines_.empty()) lines_ += ",\n";
    lines_ += event;
  }

  std::string lines_;
};

// Rows gives spans that overlap rows of their own: the first one that is free.
class Rows {
 public:
  std::size_t take(Point begin, Point end) {
    std::size_t row = 0;
    while (row < ends_.size() && ends_[row] > begin) ++row;
    if (row == ends_.size()) ends_.emplace_back();
    ends_[row] = end;
    return row;
  }
  [[nodiscard]] std::size_t count() const { return ends_.size(); }

 private:
  std::vector<Point> ends_;
};

std::string argument(const char* name, std::uint64_t value) {
  return "\"" + std::string(name) + "\":" + std::to_string(value);
}

// Each job with, inside of it, what its device call took and what came after.
void add_jobs(Events& events, const std::vector<Trace::Job>& jobs, const model::Plan& plan,
              std::size_t depth) {
  Rows rows;
  for (const Trace::Job& job : jobs) {
    const channel::Request& r = job.request;
    const std::size_t row = rows.take(job.received, job.answered);
    events.span(Trace::kWorker, row, layer_name(plan, r.layer) + (job.done ? "" : " (failed)"),
                job.received, job.answered,
                argument("micro_batch", r.attempt) + "," + argument("images", r.batch) + "," +
                    argument("bytes_in", r.input_bytes) + "," +
                    argument("bytes_out", r.output_bytes));
    events.span(Trace::kWorker, row, depth > 1 ? "queue for the device" : "compute", job.received,
                job.begun, "");
    if (depth > 1) {
      events.span(Trace::kWorker, row, "on the device", job.begun, job.answered, "");
    }
  }
  for (std::size_t row = 0; row < rows.count(); ++row) {
    events.thread(Trace::kWorker, row, "jobs " + std::to_string(row + 1));
  }
}

// A micro-batch has one row from its first job to its last answer, with the gaps between them.
void add_gaps(Events& events, const std::vector<Trace::Job>& jobs, const model::Plan& plan) {
  struct Life {
    Point first, last;
    std::vector<const Trace::Job*> jobs;
  };
  std::map<std::uint64_t, Life> lives;
  for (const Trace::Job& job : jobs) {
    Life& life = lives[job.request.attempt];
    if (life.jobs.empty()) life.first = job.received;
    life.last = job.answered;
    life.jobs.push_back(&job);
  }
  std::vector<const Life*> order;
  order.reserve(lives.size());
  for (const auto& [attempt, life] : lives) order.push_back(&life);
  std::sort(order.begin(), order.end(),
            [](const Life* a, const Life* b) { return a->first < b->first; });
  Rows rows;
  for (const Life* life : order) {
    const std::size_t row = rows.take(life->first, life->last);
    // Of several jobs that follow one answer, the first ends the gap.
    std::size_t answered = 0;
    for (const Trace::Job* job : life->jobs) {
      std::optional<std::size_t> before;
      while (answered < life->jobs.size() && life->jobs[answered]->answered <= job->received) {
        before = answered++;
      }
      if (!before) continue;
      const Trace::Job& last = *life->jobs[*before];
      events.span(
          Trace::kTrusted, row,
          layer_name(plan, last.request.layer) + " to " + layer_name(plan, job->request.layer),
          last.answered, job->received, argument("micro_batch", job->request.attempt));
    }
  }
  for (std::size_t row = 0; row < rows.count(); ++row) {
    events.thread(Trace::kTrusted, row, "micro-batches " + std::to_string(row + 1));
  }
}

// What the device says itself: a row for each of its parts.
void add_parts(Events& events, const std::vector<Trace::Job>& jobs, const model::Plan& plan,
               const std::string& device) {
  std::vector<std::string> parts;
  for (const Trace::Job& job : jobs) {
    for (const device::Device::Span& span : job.spans) {
      const auto at = std::find(parts.begin(), parts.end(), span.part);
      const auto row = static_cast<std::size_t>(at - parts.begin());
      if (at == parts.end()) parts.emplace_back(span.part);
      events.span(Trace::kDevice, row, layer_name(plan, job.request.layer), span.begin, span.end,
                  argument("micro_batch", job.request.attempt));
    }
  }
  if (parts.empty()) return;
  events.process(Trace::kDevice, device + ", by its own clock");
  for (std::size_t row = 0; row < parts.size(); ++row) {
    events.thread(Trace::kDevice, row, parts[row]);
  }
}

}  // namespace

void Trace::restart() noexcept {
  jobs_.clear();
  left_out_ = 0;
}

void Trace::add(const Job& job) {
  if (jobs_.size() < kMostJobs) {
    jobs_.push_back(job);
  } else {
    ++left_out_;
  }
}

std::string Trace::text(const std::string& device, const model::Plan& plan,
                        std::size_t depth) const {
  Events events;
  events.process(kWorker, "worker " + device + ": jobs from their arrival to their answer");
  events.process(
      kTrusted,
      "trusted process, as the worker sees it: from an answer until the worker takes the "
      "micro-batch's next job");
  add_jobs(events, jobs_, plan, depth);
  add_gaps(events, jobs_, plan);
  add_parts(events, jobs_, plan, device);
  return events.text(left_out_);
}

Status Trace::write(const std::string& path, const std::string& text) {
  const std::string part = path + ".part";
  bool written = false;
  {
    std::ofstream out(part, std::ios::binary);
    out << text;
    out.close();  // what a buffer held may fail only here
    written = !out.fail();
  }
  if (written && std::rename(part.c_str(), path.c_str()) == 0) return {};
  static_cast<void>(std::remove(part.c_str()));
  return Error{Errc::kUnavailable, "the trace cannot be written; is the disk full?"};
}

}  // namespace slalom::worker
