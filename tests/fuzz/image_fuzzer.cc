// For libFuzzer: one binary for each target, by UNTORN_FUZZ_TARGET (kOpen, kFsck, kDump). See tools/fuzz.
#include "tests/fuzz/image_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  untorn::FuzzImage(untorn::FuzzTarget::UNTORN_FUZZ_TARGET, {data, size});
  return 0;
}
