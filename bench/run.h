// One subject at work: clients that commit, or read, random pages for a while.
#ifndef UNTORN_BENCH_RUN_H_
#define UNTORN_BENCH_RUN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/aligned_buffer.h"
#include "bench/page_store.h"

namespace untorn::bench {

struct Load {
  uint64_t page_bytes = 0;
  int pages = 1;  // of a transaction
  int clients = 1;
  uint32_t objects = 1;
  uint64_t set_bytes = 64 << 20;
  uint64_t cache_bytes = 256 << 20;
  int read_percent = 0;  // operations that read one page instead
  // A few pages are drawn most often, by Zipf's law with exponent 0.99; otherwise all alike.
  bool skewed = false;
  // So many times as many pages as there are are overwritten at random before anything is measured.
  int overwritten = 0;
};

struct Run {
  uint64_t operations = 0;
  double seconds = 0;
  std::vector<uint32_t> latencies_ns;  // of all operations
  double per_second() const { return operations / seconds; }
};

// The value below which this share of `latencies` lies, in µs. Sorts.
double PercentileUs(std::vector<uint32_t>& latencies_ns, double share);

class Driver {
 public:
  // Makes the store in `directory`, which is emptied first, and writes all its pages once.
  static absl::StatusOr<std::unique_ptr<Driver>> Make(const Subject& subject, const Load& load,
                                                      const std::string& directory, uint64_t seed);
  // Removes what it made.
  ~Driver();

  absl::StatusOr<Run> RunFor(int milliseconds);
  CommitCounts counts() const { return store_->counts(); }
  // Opens it again (where it can be), reads all pages, and compares them with what was written. kDataLoss
  absl::Status Verify();

 private:
  struct Client;
  Driver(const Subject& subject, const Load& load);
  // The write of page `n`, counted through all objects, as its version says. `data` is stamped, and has to last.
  PageWrite Stamped(uint64_t n, std::byte* data) const;
  absl::Status Fill();
  absl::Status Overwrite();
  absl::Status CheckAll();

  const Subject subject_;
  const Load load_;
  PageStoreOptions options_;
  std::unique_ptr<PageStore> store_;
  std::vector<uint32_t> versions_;  // by page; each belongs to one client
  std::vector<double> shares_;      // by rank: how often a page of up to this rank is drawn, where skewed
  std::vector<std::unique_ptr<Client>> clients_;
};

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_RUN_H_
