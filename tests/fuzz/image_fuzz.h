// Arbitrary images for everything that reads one: open and recovery, fsck, dump, repair.
//
// An input is a list of edits of a real store's metadata: image_editor.h.
#ifndef UNTORN_TESTS_FUZZ_IMAGE_FUZZ_H_
#define UNTORN_TESTS_FUZZ_IMAGE_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace untorn {

// Who reads the image.
enum class FuzzTarget { kOpen, kFsck, kDump, kRepair };

// Aborts where the reader crashes, or says that all is well with a store that then fails: fsck without findings, or a
// repair, and a read or a write with kDataLoss.
void FuzzImage(FuzzTarget target, std::span<const uint8_t> input);

}  // namespace untorn

#endif  // UNTORN_TESTS_FUZZ_IMAGE_FUZZ_H_
