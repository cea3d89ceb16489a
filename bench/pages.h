// The content of pages: what version of which page each block of them is can be told from it.
#ifndef UNTORN_BENCH_PAGES_H_
#define UNTORN_BENCH_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/aligned_buffer.h"

namespace untorn::bench {

// Stamps a page, or a row of at least 48 bytes, whose content is otherwise random and cannot be compressed.
void Stamp(std::byte* page, uint64_t page_bytes, uint64_t number, uint64_t version);
// kDataLoss: what is there is not this version of this page, whole.
absl::Status CheckStamp(const std::byte* page, uint64_t page_bytes, uint64_t number, uint64_t version);
// In huge pages where it fills these.
AlignedBuffer RandomBytes(uint64_t bytes, uint64_t seed);

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_PAGES_H_
