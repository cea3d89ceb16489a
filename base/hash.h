// XXH3, by the widest vector instructions that the processor has.
// Source: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
#ifndef UNTORN_BASE_HASH_H_
#define UNTORN_BASE_HASH_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace untorn {

struct Hash128 {
  uint64_t low = 0, high = 0;
  bool operator==(const Hash128&) const = default;
};

// XXH3-128 of the pieces, one after another, with `seed`.
Hash128 HashData(std::span<const iovec> pieces, uint64_t seed);

// XXH3-64 of the bytes, and of the parts, one after another, with `seed`.
uint64_t Hash64(std::span<const std::byte> bytes, uint64_t seed = 0);
uint64_t Hash64(std::span<const std::span<const std::byte>> parts, uint64_t seed = 0);

}  // namespace untorn

#endif  // UNTORN_BASE_HASH_H_
