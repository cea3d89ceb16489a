#include "base/hash.h"

#define XXH_STATIC_LINKING_ONLY  // a hash state on the stack
#include <xxhash.h>
#ifdef __x86_64__
// These names then stand for functions that look at the processor when they are first called. Debian's libxxhash has
// them on x86-64.
#include <xxh_x86dispatch.h>
#endif

namespace untorn {

Hash128 HashData(std::span<const iovec> pieces, uint64_t seed) {
  XXH128_hash_t h;
  if (pieces.size() == 1) {
    h = XXH3_128bits_withSeed(pieces[0].iov_base, pieces[0].iov_len, seed);
  } else {
    XXH3_state_t state;
    XXH3_INITSTATE(&state);  // else the reset takes what the stack holds for a state with this seed
    XXH3_128bits_reset_withSeed(&state, seed);
    for (const iovec& piece : pieces) XXH3_128bits_update(&state, piece.iov_base, piece.iov_len);
    h = XXH3_128bits_digest(&state);
  }
  return {h.low64, h.high64};
}

uint64_t Hash64(std::span<const std::byte> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

uint64_t Hash64(std::span<const std::span<const std::byte>> parts, uint64_t seed) {
  XXH3_state_t state;
  XXH3_INITSTATE(&state);  // else the reset takes what the stack holds for a state with this seed
  XXH3_64bits_reset_withSeed(&state, seed);
  for (std::span<const std::byte> part : parts) XXH3_64bits_update(&state, part.data(), part.size());
  return XXH3_64bits_digest(&state);
}

}  // namespace untorn
