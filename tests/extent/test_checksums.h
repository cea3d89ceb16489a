// Checksums for mappings and log entries of tests whose blocks have no data. The checksum of a block follows from its
// place on the device. So a test sees whether a part of a mapping has the checksums of its blocks.
#ifndef UNTORN_TESTS_EXTENT_TEST_CHECKSUMS_H_
#define UNTORN_TESTS_EXTENT_TEST_CHECKSUMS_H_

#include <cstdint>
#include <vector>

#include "extent/log_format.h"
#include "extent/types.h"

namespace untorn {

// Refers to the checksums of up to 2^20 blocks from `physical` on.
inline ChecksumsRef TestChecksums(BlockNumber physical) {
  constexpr uint64_t kPeriod = 65521, kBlocksMax = 1 << 20;
  static const auto& table = *new std::vector<uint64_t>([] {
    std::vector<uint64_t> checksums(kPeriod + kBlocksMax);
    for (uint64_t i = 0; i < checksums.size(); ++i) checksums[i] = (i % kPeriod + 1) * 0x9e3779b97f4a7c15;
    return checksums;
  }());
  return ChecksumsRef(std::span(table).subspan(physical.value() % kPeriod));
}

// Gives a written mapping the checksums of its blocks.
inline Mapping WithTestChecksums(Mapping m) {
  m.checksums = m.state == MappingState::kWritten ? TestChecksums(m.physical) : ChecksumsRef();
  return m;
}
inline bool HasTestChecksums(const Mapping& m) {
  if (m.state != MappingState::kWritten) return !m.checksums;
  return m.checksums && m.checksums.Copy(m.logical.count) == TestChecksums(m.physical).Copy(m.logical.count);
}

// An entry that maps blocks as written, or as unwritten.
inline LogEntry TestMap(ObjectId object, BlockRange logical, BlockNumber physical,
                        MappingState state = MappingState::kWritten, bool into_unwritten = false) {
  if (state == MappingState::kUnwritten) return LogEntry::Unwritten(object, logical, physical);
  LogEntry e = LogEntry::Map(object, logical, physical, {TestChecksums(physical).Copy(logical.count), 7},
                             into_unwritten);
  e.state = state;
  return e;
}

}  // namespace untorn

#endif  // UNTORN_TESTS_EXTENT_TEST_CHECKSUMS_H_
