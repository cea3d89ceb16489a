// The two sizes that everything on the device is made of.
#ifndef UNTORN_BASE_BLOCK_SIZE_H_
#define UNTORN_BASE_BLOCK_SIZE_H_

#include <cstdint>

namespace untorn {

inline constexpr uint64_t kSectorBytes = 512;  // a power cut tears a plain write between two of these
inline constexpr uint64_t kBlockBytes = 4096;  // the unit of I/O, of space and of mappings

}  // namespace untorn

#endif  // UNTORN_BASE_BLOCK_SIZE_H_
