// A short run of the fuzz targets with inputs that follow from a seed.
#include "tests/fuzz/image_fuzz.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/rounds.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

class ImageFuzzTest : public testing::TestWithParam<FuzzTarget> {};

TEST_P(ImageFuzzTest, RandomEditsOfMetadataHarmNoReader) {
  std::mt19937_64 rng(TestSeed(40) + static_cast<uint64_t>(GetParam()));
  FuzzImage(GetParam(), {});  // the bases as they are
  const uint64_t inputs = FromEnvironment("UNTORN_FUZZ_INPUTS", Rounds(3000));
  std::vector<uint8_t> input;
  for (uint64_t i = 0; i < inputs; ++i) {
    input.resize(1 + rng() % 60);
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(rng());
    FuzzImage(GetParam(), input);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, ImageFuzzTest,
                         testing::Values(FuzzTarget::kOpen, FuzzTarget::kFsck, FuzzTarget::kDump));

}  // namespace
}  // namespace untorn
