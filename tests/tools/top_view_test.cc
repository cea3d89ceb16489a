// What `untorn top` makes of two pages of metrics.
#include "tools/top_view.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "tools/metrics_page.h"
#include "untorn/metrics.h"

namespace untorn::tools {
namespace {

StoreInfo Info() {
  StoreInfo info;
  info.path = "/a {b} \"c\"} 7\nd";
  info.log_bytes = 4 << 20;
  return info;
}

class TopViewTest : public testing::Test {
 protected:
  TopViewTest() {
    before_.open_ns = 10'000'000'000;
    before_.writes = 1000;
    before_.change_sets_by_reason[static_cast<int>(PathReason::kInPlace)] = 50;
    before_.durable_call_latency.Add(5'000'000'000);
    after_ = before_;
    after_.open_ns = 12'000'000'000;
  }
  std::string Text() {
    const MetricsPage from(PrometheusText(Info(), before_)), to(PrometheusText(Info(), after_));
    return TopText(Info().path, Interval(from, to));
  }
  nlohmann::ordered_json Json() {
    const MetricsPage from(PrometheusText(Info(), before_)), to(PrometheusText(Info(), after_));
    return TopJson(Info().path, Interval(from, to));
  }

  Stats before_, after_;
};

TEST_F(TopViewTest, RatesAreOfTheInterval) {
  after_.writes += 500;
  after_.bytes_written += 2 << 20;
  const auto json = Json();
  EXPECT_EQ(json["interval_seconds"], 2);
  EXPECT_EQ(json["per_second"]["writes"], 250);
  EXPECT_EQ(json["per_second"]["written_bytes"], 1 << 20);
  EXPECT_EQ(json["store"], Info().path);
  EXPECT_NE(Text().find("written    1.0 MiB/s      250/s"), std::string::npos) << Text();
}

TEST_F(TopViewTest, SharesOfThePathsAndTheMostFrequentReasonsAreShown) {
  const auto add = [&](PathReason reason, uint64_t count) {
    after_.change_sets_by_reason[static_cast<int>(reason)] += count;
  };
  add(PathReason::kInPlace, 600);
  add(PathReason::kUnmapped, 250);
  add(PathReason::kNotOpened, 100);
  add(PathReason::kUnsettled, 40);
  add(PathReason::kMisaligned, 10);
  const std::string text = Text();
  EXPECT_NE(text.find("in place 60.0 %, copy-on-write 40.0 % of 1000 change sets"), std::string::npos)
      << text;
  EXPECT_NE(text.find("   25.0 %  first write of a block: nothing to overwrite\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find(PathReasonSentence(PathReason::kUnsettled)), std::string::npos) << text;
  EXPECT_EQ(text.find(PathReasonSentence(PathReason::kMisaligned)), std::string::npos) << "the fourth";
  EXPECT_EQ(Json()["change_sets_by_reason"],
            nlohmann::ordered_json::parse(
                R"({"in-place":600,"unmapped":250,"unsettled":40,"misaligned":10,"not-opened":100})"));
}

TEST_F(TopViewTest, LatenciesAreOfTheInterval) {
  for (int i = 0; i < 990; ++i) after_.durable_call_latency.Add(100'000);
  for (int i = 0; i < 10; ++i) after_.durable_call_latency.Add(20'000'000);
  const auto calls = Json()["latencies"]["durable_call"];
  EXPECT_EQ(calls["count"], 1000) << "not the one before";
  // 100 us lie between 98.304 and 131.072 us, and 20 ms between 16.78 and 25.17 ms.
  EXPECT_NEAR(calls["p50_seconds"], 115e-6, 17e-6);
  EXPECT_LE(calls["p99_seconds"], 131.1e-6);
  EXPECT_NEAR(calls["p99_9_seconds"], 21e-3, 4.2e-3);
  EXPECT_NEAR(calls["max_seconds"], 25.17e-3, 0.01e-3);
  EXPECT_EQ(Json()["latencies"]["commit"]["count"], 0);
}

TEST_F(TopViewTest, TimesBehindTheLastBucketCountAsItsEnd) {
  after_.commit_latency.Add(60'000'000'000);
  EXPECT_NEAR(Json()["latencies"]["commit"]["max_seconds"], 12.88, 0.01);
}

TEST_F(TopViewTest, ViewFitsATerminalWhateverTheNumbers) {
  Stats* const stats[] = {&before_, &after_};
  for (const uint64_t huge : {uint64_t{0}, uint64_t{1} << 59}) {
    for (Stats* s : stats) {
      for (int r = 0; r < kPathReasonCount; ++r)
        s->change_sets_by_reason[r] = s == &after_ ? huge / 32 + r : 0;
    }
    after_.bytes_written = after_.writes = after_.reads = after_.bytes_read = before_.writes + huge;
    after_.device_bytes_written = after_.device_writes = after_.device_reads = after_.device_bytes_read =
        huge;
    after_.commits = after_.flushes = after_.transactions = after_.checkpoints = huge;
    after_.space_total = after_.space_free = after_.space_pending = after_.space_leased = huge;
    after_.blocks_damaged = after_.leases = after_.leases_revoked = huge;
    std::istringstream lines(Text());
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) EXPECT_LE(line.size(), 80u) << line;
    EXPECT_LE(count, 24);
    EXPECT_GE(count, 14);
  }
}

TEST(MetricsPageTest, WhatIsNoPageHasNoNumbers) {
  for (const char* text : {"", "\n", "{", "} ", "a{} x", "a_bucket{le=\"\"} 1", "a_bucket{} 1", "#", "} {"}) {
    const MetricsPage page{std::string_view(text)};
    EXPECT_EQ(page.Value("a"), 0);
    const Interval interval(page, page);
    EXPECT_EQ(interval.PerSecond("a"), 0);
    EXPECT_EQ(interval.TimesOf("a").count, 0u);
  }
}

}  // namespace
}  // namespace untorn::tools
