// The header of a database, at the beginning of its first page: https://www.sqlite.org/fileformat2.html#the_database_header
#ifndef UNTORN_INTEGRATIONS_SQLITE_HEADER_H_
#define UNTORN_INTEGRATIONS_SQLITE_HEADER_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace untorn::sqlite {

inline constexpr uint64_t kHeaderBytes = 100;

// A file that was put into a store, or copied there by the backup API, may say that it has a write-ahead log. It has none
// there, and SQLite would not open it.
//
// What does not begin as a database does is left alone: it may be anything, also an encrypted database.
class WalMark {
 public:
  static bool IsIn(std::span<const std::byte> first_page) {
    return first_page.size() >= kHeaderBytes &&
           std::memcmp(first_page.data(), kMagic.data(), kMagic.size()) == 0 &&
           (first_page[kWriteVersion] == kWal || first_page[kReadVersion] == kWal);
  }
  static void Remove(std::span<std::byte> first_page) {
    if (!IsIn(first_page)) return;
    first_page[kWriteVersion] = first_page[kReadVersion] = kLegacy;
  }

 private:
  static constexpr std::string_view kMagic{"SQLite format 3", 16};  // with its zero
  static constexpr size_t kWriteVersion = 18, kReadVersion = 19;
  static constexpr std::byte kLegacy{1}, kWal{2};
};

// What SQLite changes of the first page with every transaction, whatever else it does: the change counter, by which
// connections find out that what they have cached is stale, and the counter for which the version number beside it is valid.
class HeaderCounters {
 public:
  explicit HeaderCounters(std::span<const std::byte, kHeaderBytes> header) {
    std::copy_n(header.begin() + kChangeAt, kChangeBytes, change_.begin());
    std::copy_n(header.begin() + kValidForAt, kValidForBytes, valid_for_.begin());
  }
  // The same but for the change counter, which nobody has seen yet.
  HeaderCounters Next() const {
    HeaderCounters next = *this;
    for (size_t i = kChangeBytes; i-- > 0;) {
      next.change_[i] = std::byte(std::to_integer<int>(next.change_[i]) + 1);
      if (next.change_[i] != std::byte{0}) break;
    }
    return next;
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

#endif  // UNTORN_INTEGRATIONS_SQLITE_HEADER_H_
