// SPDX-License-Identifier: Apache-2.0
#include "worker/trace.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "support/folder.h"

namespace slalom::worker {
namespace {

using std::chrono::microseconds;

// A job of layer 7 of which the tests' plan, an empty one, knows nothing.
Trace::Job job(std::uint64_t attempt, int received, int begun, int answered) {
  Trace::Job out{.done = true};
  out.request.attempt = attempt;
  out.request.layer = 7;
  out.received = Trace::Clock::time_point(microseconds(received));
  out.begun = Trace::Clock::time_point(microseconds(begun));
  out.answered = Trace::Clock::time_point(microseconds(answered));
  return out;
}

std::size_t count(const std::string& text, const std::string& piece) {
  std::size_t n = 0;
  for (auto at = text.find(piece); at != std::string::npos; at = text.find(piece, at + 1)) ++n;
  return n;
}

TEST(Trace, JobsAtTheSameTimeHaveRowsOfTheirOwn) {
  Trace trace;
  trace.add(job(1, 100, 110, 150));
  trace.add(job(2, 120, 130, 170));
  trace.add(job(3, 160, 165, 180));
  const std::string text = trace.text("cuda:0", {}, 4);
  EXPECT_EQ(count(text, R"("pid":1,"tid":0,"ts":100.000,"dur":50.000,"name":"layer 7")"), 1U)
      << text;
  EXPECT_EQ(count(text, R"("pid":1,"tid":1,"ts":120.000,"dur":50.000,"name":"layer 7")"), 1U);
  EXPECT_EQ(count(text, R"("pid":1,"tid":0,"ts":160.000,"dur":20.000,"name":"layer 7")"), 1U);
  EXPECT_EQ(count(text, R"("ts":100.000,"dur":10.000,"name":"queue for the device")"), 1U);
  EXPECT_EQ(count(text, R"("ts":110.000,"dur":40.000,"name":"on the device")"), 1U);
  EXPECT_EQ(count(text, R"("pid":2,"tid":0,"ts")"), 0U);  // three micro-batches, one job each
}

TEST(Trace, AGapGoesFromTheLastAnswerToTheNextJobOfTheSameMicroBatch) {
  Trace trace;
  trace.add(job(1, 100, 105, 110));
  trace.add(job(1, 102, 111, 120));  // sent with the first: no gap
  trace.add(job(2, 125, 126, 130));
  trace.add(job(1, 140, 141, 150));
  trace.add(job(1, 145, 151, 160));  // follows the same answers as the one before
  const std::string text = trace.text("cpu", {}, 1);
  EXPECT_EQ(count(text, R"("ph":"X","pid":2)"), 1U) << text;
  EXPECT_EQ(count(text, R"("pid":2,"tid":0,"ts":120.000,"dur":20.000,"name":"layer 7 to layer 7")"),
            1U);
}

TEST(Trace, PartsOfADeviceHaveRowsOfTheirOwn) {
  Trace trace;
  Trace::Job one = job(1, 100, 110, 200);
  const auto at = [](int us) { return Trace::Clock::time_point(microseconds(us)); };
  one.spans = {{"upload", at(120), at(130)}, {"kernels", at(130), at(170)}};
  trace.add(one);
  one.spans = {{"kernels", at(180), at(185)}};
  trace.add(one);
  const std::string text = trace.text("cuda:1", {}, 4);
  EXPECT_EQ(count(text, R"("pid":3,"tid":0,"ts":120.000,"dur":10.000)"), 1U) << text;
  EXPECT_EQ(count(text, R"("pid":3,"tid":1,"ts":130.000,"dur":40.000)"), 1U);
  EXPECT_EQ(count(text, R"("pid":3,"tid":1,"ts":180.000,"dur":5.000)"), 1U);
  EXPECT_EQ(count(text, R"("name":"cuda:1, by its own clock")"), 1U);
  EXPECT_EQ(count(text, R"("name":"thread_name","args":{"name":"kernels"})"), 1U);
  trace.restart();
  EXPECT_EQ(trace.text("cuda:1", {}, 4).find("own clock"), std::string::npos);
}

TEST(Trace, MemoryIsBounded) {
  Trace trace;
  for (std::size_t i = 0; i < Trace::kMostJobs + 5; ++i) trace.add(job(i, 1, 2, 3));
  const std::string text = trace.text("cpu", {}, 1);
  EXPECT_EQ(count(text, R"("name":"layer 7")"), Trace::kMostJobs);
  EXPECT_NE(text.find(R"("jobs_left_out":5)"), std::string::npos);
  trace.restart();
  EXPECT_NE(trace.text("cpu", {}, 1).find(R"("jobs_left_out":0)"), std::string::npos);
}

TEST(Trace, NamesAreWrittenAsJson) {
  model::Plan plan;
  plan.nodes.resize(8);
  plan.nodes[7].name = "a\"b\\c\n\xff";
  Trace trace;
  trace.add(job(1, 1, 2, 3));
  EXPECT_EQ(count(trace.text("cpu", plan, 1), R"("name":"a\"b\\c??")"), 1U);
}

TEST(Trace, FilesAreWhole) {
  const slalom::testing::Folder folder;
  const std::string file = folder.file("t.json");
  ASSERT_TRUE(Trace::write(file, "all of it").ok());
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  EXPECT_EQ(text.str(), "all of it");
  EXPECT_FALSE(Trace::write(folder.file("no/t.json"), "x").ok());
}

}  // namespace
}  // namespace slalom::worker
