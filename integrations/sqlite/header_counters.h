// What SQLite changes of a database's first page with every transaction, whatever else it does: the change counter, by which
// connections find out that what they have cached is stale, and the counter for which the version number beside it is valid.
// https://www.sqlite.org/fileformat2.html#file_change_counter
#ifndef UNTORN_INTEGRATIONS_SQLITE_HEADER_COUNTERS_H_
#define UNTORN_INTEGRATIONS_SQLITE_HEADER_COUNTERS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace untorn::sqlite {

class HeaderCounters {
 public:
  // They lie in this many bytes.
  static constexpr uint64_t kHeaderBytes = 100;

  explicit HeaderCounters(std::span<const std::byte, kHeaderBytes> header) {
    std::copy_n(header.begin() + kChangeAt, change_.size(), change_.begin());
    std::copy_n(header.begin() + kValidForAt, valid_for_.size(), valid_for_.begin());
  }
  // Puts them where they belong into what was read from `offset` on.
  void PutInto(uint64_t offset, std::span<std::byte> read) const {
    Put(change_, kChangeAt, offset, read);
    Put(valid_for_, kValidForAt, offset, read);
  }
  // Whether two first pages of one size differ in nothing else.
  static bool AreAllThatDiffers(std::span<const std::byte> a, std::span<const std::byte> b) {
    const auto equal = [&](size_t from, size_t to) {
      return std::memcmp(&a[from], &b[from], to - from) == 0;
    };
    return equal(0, kChangeAt) && equal(kChangeAt + kChangeBytes, kValidForAt) &&
           equal(kValidForAt + kValidForBytes, a.size());
  }

 private:
  static constexpr size_t kChangeAt = 24, kChangeBytes = 4, kValidForAt = 92, kValidForBytes = 8;

  static void Put(std::span<const std::byte> bytes, uint64_t at, uint64_t offset, std::span<std::byte> read) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (at + i >= offset && at + i < offset + read.size()) read[at + i - offset] = bytes[i];
    }
  }

  std::array<std::byte, kChangeBytes> change_;
  std::array<std::byte, kValidForBytes> valid_for_;
};

}  // namespace untorn::sqlite

#endif  // UNTORN_INTEGRATIONS_SQLITE_HEADER_COUNTERS_H_
