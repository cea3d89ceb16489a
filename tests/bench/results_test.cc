// What the benchmark tells: ratios, bars, and the files it leaves.
#include "bench/results.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "bench/compare.h"
#include "nlohmann/json.hpp"

namespace untorn::bench {
namespace {

TEST(ResultsTest, MedianIsOfTheMiddle) {
  EXPECT_EQ(MedianOf({}), 0);
  EXPECT_EQ(MedianOf({3, 1, 2}), 2);
  EXPECT_EQ(MedianOf({4, 1, 3, 2}), 2.5);
}

// A round's ratio is of what was measured in that round: the disk may be another one in the next.
TEST(ResultsTest, RatiosAreTakenRoundByRound) {
  Results results;
  AddRatio("work", {{"fast", {10, 200, 30}}, {"slow", {5, 100, 10}}}, "fast", "slow", &results);
  ASSERT_EQ(results.ratios.size(), 1u);
  EXPECT_EQ(results.ratios[0].rounds, (std::vector<double>{2, 2, 3}));
  EXPECT_EQ(results.ratios[0].median(), 2);
  EXPECT_EQ(results.ratios[0].max(), 3);
}

TEST(ResultsTest, BestPeerIsTheOneWithTheBestMedian) {
  Results results;
  AddRatioToBest("work", {{"ours", {10, 10, 10}}, {"a", {1, 1, 100}}, {"b", {2, 2, 2}}}, "ours", {"a", "b"},
                 &results);
  EXPECT_EQ(results.ratios[0].against, "best peer");
  EXPECT_EQ(results.ratios[0].median(), 5);
}

TEST(ResultsTest, EveryBarIsToldAsMetNotMetOrNotMeasured) {
  Results results;
  results.ratios = {{"work", "ours", "raw", {0.8, 0.9, 1.0}}, {"time of work", "ours", "memcpy", {2, 3, 4}}};
  results.bars = {{"work", "ours", "raw", 0.9, {}},
                  {"work", "ours", "raw", 0.91, {}},
                  {"time of work", "ours", "memcpy", {}, 3},
                  {"time of work", "ours", "memcpy", {}, 2.9},
                  {"work", "ours", "nobody", 1, {}}};
  const std::vector<std::string> lines = results.BarLines();
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0], "met      work: ours against raw: 0.90 (0.80 to 1.00), at least 0.90");
  EXPECT_EQ(lines[1].substr(0, 7), "NOT MET");
  EXPECT_EQ(lines[2].substr(0, 4), "met ");
  EXPECT_EQ(lines[3], "NOT MET  time of work: ours against memcpy: 3.00 (2.00 to 4.00), at most 2.90");
  EXPECT_EQ(lines[4], "not measured  work: ours against nobody");
}

TEST(ResultsTest, FilesHoldWhatWasFound) {
  Results results;
  results.ratios = {{"work", "ours", "raw", {0.5, 1, 4}}};
  results.figures = {{"work", "ours", "as it comes", 123, 1, 2, 3, 4}};
  const std::string directory = testing::TempDir() + "/bench-results";
  const absl::Status written = results.Write(directory);
  ASSERT_TRUE(written.ok()) << written;
  std::ifstream in(directory + "/results.json");
  const nlohmann::json json = nlohmann::json::parse(in);
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0], (nlohmann::json{{"work", "work"},
                                     {"subject", "ours"},
                                     {"against", "raw"},
                                     {"ratio_median", 1.0},
                                     {"ratio_min", 0.5},
                                     {"ratio_max", 4.0},
                                     {"rounds", 3}}));
  for (const char* name : {"/figures.json", "/results.md"})
    EXPECT_TRUE(std::ifstream(directory + name).good());
}

}  // namespace
}  // namespace untorn::bench
