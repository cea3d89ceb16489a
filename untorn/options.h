// This header has the options, results and statistics of the public API. All of them are plain values.
#ifndef UNTORN_OPTIONS_H_
#define UNTORN_OPTIONS_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace untorn {

// Says when a call that changes the store returns.
enum class Durability {
  kBuffered,  // when the change is accepted; it becomes durable later, or at a sync
  kSync,      // when the device has confirmed it
};

// Says how atomic writes may reach the device.
enum class WritePolicy {
  kAutomatic,  // in place where the range qualifies and that is cheaper, else copy-on-write
  kAlwaysCow,  // never in place
  // An atomic write that can never qualify for the in-place path is refused. Others may be opened at their first overwrite.
  kHardwareOnly,
};

// Says why a change set went in place or by copy-on-write. Reason 0 is "in place"; each other reason names
// the first thing that spoke against it. The numbers are stable, and new reasons are added at the end:
// statistics use the numbers.
enum class PathReason : uint8_t {
  kInPlace = 0,      // qualified: one atomic overwrite
  kPolicyAlwaysCow,  // the store's policy
  kNoAtomicLimits,   // the device promises no atomic unit
  kDeviceRefused,    // the device refused this atomic write at run time
  kSeveralRanges,    // one of several ranges that commit together
  kMetadataChange,   // changes size or other metadata, which needs a record
  kBarrierUnmet,     // something before a barrier is not durable yet
  kUnmapped,         // first write of a block: there is nothing to overwrite
  kUnwritten,        // first write into preallocated space
  kFragmented,       // not one physical run
  kUnsettled,        // the log record that made or opened its mapping is not settled yet
  kLengthNotPowerOfTwo,
  kBelowUnitMin,
  kAboveUnitMax,
  kMisaligned,         // its place on the device is not a multiple of its length
  kStraddlesBoundary,  // crosses the device's atomic boundary
  kReadOutstanding,    // a read of these blocks is on its way to the device
  kCheaperPacked,      // a batch of scattered ranges is cheaper as one packed run
  kMappingDamaged,     // what its blocks are mapped to cannot be read
  kNotOpened,          // no record says that its blocks may be overwritten in place
};
inline constexpr int kPathReasonCount = 20;
const char* PathReasonName(PathReason reason);      // "in-place", "unsettled"
const char* PathReasonSentence(PathReason reason);  // for people

enum class LogLevel { kInfo, kWarning, kError };
using LogCallback = std::function<void(LogLevel, std::string_view)>;

struct CreateOptions {
  // Is the most that the store may take, at least 8 MiB. 0 takes all of a block device, and as much as the file system
  // has for a file. A file begins small and grows by itself. The limit can be raised later (Store::Resize).
  uint64_t size_bytes = 0;
  // Replaces an existing file, or overwrites a device that seems to hold a file system or a store.
  bool force = false;
  // Writes zeros to all of a file now. Otherwise the store writes zeros little by little, ahead of use. Each
  // of these writes takes its share of the disk from commits, but the file takes no more space than it has
  // needed so far. A block device needs no zeros.
  bool prepare = false;
  // Is called with (done, total) bytes while space is prepared.
  std::function<void(uint64_t, uint64_t)> progress = nullptr;
};

struct OpenOptions {
  bool read_only = false;
  WritePolicy policy = WritePolicy::kAutomatic;
  // Is the operator's word that the device keeps whole any aligned write of a power of two bytes, up to this
  // size. The kernel does not report so. If the word is wrong, a crash may tear writes. So it may on a file
  // system that copies on write, since the disk then overwrites nothing. Opening a store there logs a warning.
  // 0 relies on the kernel's report.
  uint64_t stated_atomic_unit_bytes = 0;
  // Limits the memory for cached data and metadata. Must be at least 4 MiB. The page cache has 7/8, and tree
  // nodes have 1/8. Half of the page cache may be dirty. With 0, the cache fits the machine: dirty data is limited as
  // with 64 MiB, and clean data may take a quarter of the memory that the machine and the cgroup could give. Tree nodes
  // may take a seventh of that besides. When others take memory, the store gives the memory of clean data and of tree
  // nodes back. A read-only store does so when it reads from the device.
  uint64_t cache_bytes = 0;
  bool use_io_uring = true;   // false for system calls
  LogCallback log = nullptr;  // called from any thread, never with a lock held that the store needs
};

struct WriteOptions {
  // If true, the whole write is one atomic write, at any offset and with any length up to
  // StoreInfo::atomic_write_bytes_max. If false, each block of the write is an atomic write by itself.
  bool atomic = true;
  Durability durability = Durability::kBuffered;
  // Drops the data from the cache once the data is durable. Is for engines with a buffer pool of their own.
  bool bypass_cache = false;
};

struct ReadOptions {
  bool bypass_cache = false;  // does not keep in the cache what had to be read from the device
};

struct ObjectInfo {
  std::string name;
  uint64_t id = 0;
  uint64_t size_bytes = 0;
};

struct ShrinkOptions {
  // Is called with (done, total) bytes after each piece of data that was moved, by the calling thread and without a lock.
  // `total` is all that is in the way, metadata too, so the last call may not reach it. If the function returns false, the
  // store stays as large as it is. What was moved stays where it is. The function must not resize or trim the store.
  std::function<bool(uint64_t, uint64_t)> progress = nullptr;
};

struct TrimResult {
  uint64_t before_bytes = 0, after_bytes = 0;  // of the file
  uint64_t moved_bytes = 0;                    // data that was in the way
};

struct ScrubOptions {
  uint64_t bytes_per_second_max = 0;  // 0: as fast as the device reads
  // Is called with (done, total) bytes after each piece of data, by the thread of the scrub and without a lock. `total` is
  // all that the store has in use, metadata too, so the last call jumps. The scrub stops if it returns false.
  std::function<bool(uint64_t, uint64_t)> progress = nullptr;
};

// A range that a scrub found damaged. Reads of the range return kDataLoss. The name is empty if not even the names of
// objects can be read.
struct DamagedRange {
  std::string object;
  uint64_t object_id = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  std::string why;
};

struct ScrubResult {
  uint64_t objects = 0;
  uint64_t bytes = 0;                 // that were read and compared
  uint64_t blocks_adopted = 0;        // were open at a crash, and now have the checksums of what was read
  std::vector<DamagedRange> damaged;  // the first 1000; damaged_total counts all
  uint64_t damaged_total = 0;
  uint64_t damaged_bytes = 0;
};

struct StoreInfo {
  std::string path;
  std::string uuid;
  int format_version = 0;
  uint64_t size_bytes = 0;
  uint64_t block_bytes = 0;
  uint64_t log_bytes = 0;
  std::string engine;         // "io_uring" or "system calls"
  std::string engine_reason;  // why the engine is not the best one; empty if it is
  std::string durable_road;   // how a commit that is alone becomes durable, and why so, in words
  bool direct_io = false;
  std::string
      direct_io_note;  // why there is none, or what it is worth, and what follows; empty if there is nothing to say
  std::string atomic_source;  // "hardware", "file system" (which is not used), "stated", "none"
  std::string atomic_note;
  uint64_t atomic_unit_min_bytes = 0;  // of the in-place path
  uint64_t atomic_unit_max_bytes = 0;
  uint64_t atomic_boundary_bytes = 0;
  uint64_t atomic_write_bytes_max = 0;  // the promise: atomic writes up to this size, on any device
  // On a full store, one transaction or write may overwrite so much at least, wherever it is written or preallocated. For
  // that, and for the metadata, 1/32 of what the store has prepared is kept. The number is less where that is not there.
  uint64_t overwrite_reserve_bytes = 0;
  bool read_only = false;
  // Another process has the store open for writing. What is read here is a state that Store::Refresh brings up to date.
  bool beside_owner = false;
};

// Counts times by their length. The buckets are at most an eighth of a power of two wide, so a percentile is at most 12.5 %
// too high.
class LatencyHistogram {
 public:
  static constexpr int kBuckets = 272;

  // Counts one time. All above 68 s fall into the last bucket.
  void Add(uint64_t ns) {
    ++counts_[Bucket(ns)];
    ++count_;
    sum_ns_ += ns;
  }
  // A bucket has the times from the end of the bucket before, without it, to its own end.
  static constexpr int Bucket(uint64_t ns) {
    const uint64_t below = ns == 0 ? 0 : ns - 1;
    const int doublings = std::max(static_cast<int>(std::bit_width(below)), kPartBits + 1) - (kPartBits + 1);
    return std::min((doublings << kPartBits) + static_cast<int>(below >> doublings), kBuckets - 1);
  }
  static constexpr uint64_t BucketEndNs(int bucket) {
    const int doublings = std::max((bucket >> kPartBits) - 1, 0);
    return static_cast<uint64_t>(bucket - (doublings << kPartBits) + 1) << doublings;
  }
  // Returns a time that `percent` of the times do not pass, 0 if there are none. 100 stands for the longest.
  uint64_t PercentileNs(double percent) const;

  uint64_t count() const { return count_; }
  uint64_t sum_ns() const { return sum_ns_; }
  uint64_t count_in(int bucket) const { return counts_[bucket]; }

 private:
  static constexpr int kPartBits = 3;  // a power of two has 8 buckets

  std::array<uint64_t, kBuckets> counts_{};
  uint64_t count_ = 0, sum_ns_ = 0;
};

// The counters begin at 0 when the store is opened, and never go back.
struct Stats {
  uint64_t open_ns = 0;        // since the store was opened
  uint64_t bytes_written = 0;  // by the application
  uint64_t bytes_read = 0;
  uint64_t writes = 0;
  uint64_t reads = 0;
  uint64_t transactions = 0;
  uint64_t commits = 0;  // batches made durable
  uint64_t log_records = 0;
  uint64_t log_bytes = 0;
  uint64_t flushes = 0;
  uint64_t durable_writes = 0;    // durable by themselves, without a flush (RWF_DSYNC)
  uint64_t commits_in_lanes = 0;  // data and record went in one write
  uint64_t settling_records = 0;  // that open blocks, or claim such a record
  uint64_t checkpoints = 0;
  uint64_t device_writes = 0;  // requests
  uint64_t device_reads = 0;
  uint64_t requests_executed = 0;  // system calls of the thread that waited; the others went through io_uring
  uint64_t device_bytes_written = 0;
  uint64_t device_bytes_read = 0;
  uint64_t in_place_bytes = 0;
  uint64_t cow_bytes = 0;
  std::array<uint64_t, kPathReasonCount> change_sets_by_reason{};
  uint64_t change_sets_in_place() const { return change_sets_by_reason[0]; }
  uint64_t change_sets_by_cow() const {
    uint64_t n = 0;
    for (int i = 1; i < kPathReasonCount; ++i) n += change_sets_by_reason[i];
    return n;
  }
  // Space, in bytes.
  uint64_t space_total = 0;
  uint64_t space_free = 0;  // can be reserved by a write now or after preparing
  uint64_t space_prepared = 0;
  uint64_t space_reserved = 0;  // promised to accepted writes that are not on the device yet
  uint64_t space_pending = 0;   // freed, not reusable yet
  uint64_t space_leased = 0;    // freed, and kept for other processes that read
  // Cache, in bytes.
  uint64_t cache_limit = 0;  // now
  uint64_t cache_used = 0;
  uint64_t cache_dirty = 0;
  uint64_t page_hits = 0;
  uint64_t page_misses = 0;
  // Blocks that were read, or scrubbed, and did not match their checksum. Reads of them fail with kDataLoss.
  uint64_t blocks_damaged = 0;
  // These were open for writes in place when the last owner of the store crashed, so the device's word counts.
  uint64_t blocks_excused = 0;
  // Log.
  uint64_t lsn_last = 0;
  uint64_t lsn_durable = 0;
  uint64_t lsn_settled = 0;
  uint64_t log_epoch = 0;
  uint64_t log_used = 0;           // bytes that no checkpoint has given back, of StoreInfo::log_bytes
  uint64_t recovered_records = 0;  // replayed when the store was opened
  uint64_t dropped_records = 0;    // of the log's end, found incomplete when the store was opened
  // Other processes that read (Store::Refresh). Those whose state was given up had to refresh.
  uint64_t leases = 0;  // now
  uint64_t leases_granted = 0;
  uint64_t leases_revoked = 0;
  // How long things took, each one that succeeded. Buffered changes and cached reads are not timed: a look at a clock would
  // take a good part of their time.
  LatencyHistogram durable_call_latency;  // whole calls that waited: kSync, Commit, Sync; not WriteAsync
  LatencyHistogram commit_latency;        // of a batch, from the choice of its changes until they are durable
  LatencyHistogram device_read_latency;   // reads that went to the device, once that was known
};

}  // namespace untorn

#endif  // UNTORN_OPTIONS_H_
