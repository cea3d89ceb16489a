// A short run of the fuzz targets, with the inputs that libFuzzer found worth keeping and with some that follow from a
// seed.
#include "tests/fuzz/image_fuzz.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/rounds.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

class ImageFuzzTest : public testing::TestWithParam<FuzzTarget> {};

TEST_P(ImageFuzzTest, TheCorpusHarmsNoReader) {
  constexpr const char* kNames[] = {"open", "fsck", "dump", "fsck"};
  std::ifstream corpus(absl::StrCat("tests/fuzz/corpus/", kNames[static_cast<int>(GetParam())]));
  size_t inputs = 0;
  for (std::string line; std::getline(corpus, line); ++inputs) {
    if (inputs % kRoundsDivisor != 0) continue;
    const std::string input = absl::HexStringToBytes(line);
    FuzzImage(GetParam(), {reinterpret_cast<const uint8_t*>(input.data()), input.size()});
  }
  EXPECT_GT(inputs, 0u);
}

TEST_P(ImageFuzzTest, RandomEditsOfMetadataHarmNoReader) {
  std::mt19937_64 rng(TestSeed(40) + static_cast<uint64_t>(GetParam()));
  FuzzImage(GetParam(), {});  // the bases as they are
  const uint64_t inputs = FromEnvironment("UNTORN_FUZZ_INPUTS", kRoundsDivisor == 1 ? 3000 : 200);
  std::vector<uint8_t> input;
  for (uint64_t i = 0; i < inputs; ++i) {
    input.resize(1 + rng() % 60);
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(rng());
    FuzzImage(GetParam(), input);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, ImageFuzzTest,
                         testing::Values(FuzzTarget::kOpen, FuzzTarget::kFsck, FuzzTarget::kDump,
                                         FuzzTarget::kRepair));

}  // namespace
}  // namespace untorn
