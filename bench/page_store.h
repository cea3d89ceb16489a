// What the benchmark measures: something that makes updates of pages durable, each set of them as a whole. untorn, its
// peers and plain I/O, which is the limit, all stand behind this.
#ifndef UNTORN_BENCH_PAGE_STORE_H_
#define UNTORN_BENCH_PAGE_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace untorn::bench {

struct PageWrite {
  uint32_t object = 0;
  uint64_t page = 0;
  const std::byte* data = nullptr;  // of the store's page size, aligned to 4096 bytes
};

struct PageStoreOptions {
  std::string directory;  // empty at first; what is there afterwards is the caller's to remove
  uint64_t page_bytes = 0;
  uint64_t pages = 0;  // of each object
  uint32_t objects = 1;
  int clients = 1;  // threads that use it at once
  uint64_t cache_bytes = 0;
};

// Of the commits since a store was opened.
struct CommitCounts {
  uint64_t commits = 0;
  uint64_t in_one_write = 0;  // data and record
  uint64_t settlings = 0;     // records that only settle others, or open ranges for writes in place
};

// Threading: calls with different `client` may run at once.
class PageStore {
 public:
  virtual ~PageStore() = default;
  // Writes them all or, after a crash, none; durable when it returns.
  virtual absl::Status Commit(int client, std::span<const PageWrite> pages) = 0;
  virtual absl::Status Read(int client, uint32_t object, uint64_t page, std::byte* out) = 0;
  // All are zero if the store does not count.
  virtual CommitCounts counts() const { return {}; }
};

// `exists`: opened again, with all that was committed.
using OpenPageStore =
    std::function<absl::StatusOr<std::unique_ptr<PageStore>>(const PageStoreOptions&, bool exists)>;

// A subject of the benchmark.
struct Subject {
  std::string name;
  std::string settings;  // in words, for the table
  OpenPageStore open;
  bool reopens =
      true;  // false: what it wrote is known only until it is closed; it may have lost what is older
};

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_PAGE_STORE_H_
