#include "untorn/metrics.h"

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "untorn/version.h"

namespace untorn {
namespace {

struct Metric {
  const char* name;
  const char* help;
  uint64_t Stats::*value;
};

constexpr Metric kCounters[] = {
    {"untorn_writes_total", "Writes of the application.", &Stats::writes},
    {"untorn_written_bytes_total", "Bytes that the application has written.", &Stats::bytes_written},
    {"untorn_reads_total", "Reads of the application.", &Stats::reads},
    {"untorn_read_bytes_total", "Bytes that the application has read.", &Stats::bytes_read},
    {"untorn_transactions_total", "Transactions that have committed.", &Stats::transactions},
    {"untorn_commits_total", "Batches of changes that were made durable.", &Stats::commits},
    {"untorn_commits_in_lanes_total", "Commits whose data and record were one write.",
     &Stats::commits_in_lanes},
    {"untorn_log_records_total", "Records that were written to the log.", &Stats::log_records},
    {"untorn_log_written_bytes_total", "Bytes that were written to the log.", &Stats::log_bytes},
    {"untorn_settling_records_total",
     "Records that open blocks for writes in place, or settle such a record.", &Stats::settling_records},
    {"untorn_checkpoints_total", "Checkpoints that were made.", &Stats::checkpoints},
    {"untorn_flushes_total", "Flushes of the device.", &Stats::flushes},
    {"untorn_durable_writes_total", "Device writes that were durable without a flush.",
     &Stats::durable_writes},
    {"untorn_device_writes_total", "Write requests to the device.", &Stats::device_writes},
    {"untorn_device_written_bytes_total", "Bytes written to the device.", &Stats::device_bytes_written},
    {"untorn_device_reads_total", "Read requests to the device.", &Stats::device_reads},
    {"untorn_device_read_bytes_total", "Bytes read from the device.", &Stats::device_bytes_read},
    {"untorn_requests_executed_total", "Device requests that a waiting thread made by a system call.",
     &Stats::requests_executed},
    {"untorn_in_place_bytes_total", "Bytes of change sets that went in place.", &Stats::in_place_bytes},
    {"untorn_copy_on_write_bytes_total", "Bytes of change sets that went by copy-on-write.",
     &Stats::cow_bytes},
    {"untorn_page_hits_total", "Blocks that reads found in the cache.", &Stats::page_hits},
    {"untorn_page_misses_total", "Blocks that reads did not find in the cache.", &Stats::page_misses},
    {"untorn_damaged_blocks_total", "Blocks that were read and did not match their checksum.",
     &Stats::blocks_damaged},
    {"untorn_excused_blocks_total", "Blocks that did not match, and were open when the last owner crashed.",
     &Stats::blocks_excused},
    {"untorn_recovered_records_total", "Log records that the opening has replayed.",
     &Stats::recovered_records},
    {"untorn_dropped_records_total", "Incomplete log records that the opening has dropped.",
     &Stats::dropped_records},
    {"untorn_leases_granted_total", "Leases granted to other processes that read.", &Stats::leases_granted},
    {"untorn_leases_revoked_total", "Leases in use that were revoked.", &Stats::leases_revoked},
};

constexpr Metric kGauges[] = {
    {"untorn_space_limit_bytes", "The most that the store may take.", &Stats::space_total},
    {"untorn_space_free_bytes", "Space that a write can have, now or when more is prepared.",
     &Stats::space_free},
    {"untorn_space_prepared_bytes", "Space that is prepared on the device.", &Stats::space_prepared},
    {"untorn_space_reserved_bytes", "Space promised to accepted changes.", &Stats::space_reserved},
    {"untorn_space_pending_bytes", "Space that is freed, and not reusable yet.", &Stats::space_pending},
    {"untorn_space_leased_bytes", "Space that is freed, and kept for other processes that read.",
     &Stats::space_leased},
    {"untorn_cache_limit_bytes", "The most that the cache may take now.", &Stats::cache_limit},
    {"untorn_cache_used_bytes", "What the cache takes.", &Stats::cache_used},
    {"untorn_dirty_bytes", "Accepted data that is not durable yet.", &Stats::cache_dirty},
    {"untorn_log_used_bytes", "What no checkpoint has given back of the log.", &Stats::log_used},
    {"untorn_lsn_last", "The newest LSN.", &Stats::lsn_last},
    {"untorn_lsn_durable", "The newest LSN that is durable with all before it.", &Stats::lsn_durable},
    {"untorn_lsn_settled", "The newest LSN that is settled.", &Stats::lsn_settled},
    {"untorn_log_epoch", "How often the store was opened for writing.", &Stats::log_epoch},
    {"untorn_leases", "Leases that last now.", &Stats::leases},
};

struct Times {
  const char* name;
  const char* help;
  LatencyHistogram Stats::*times;
};
constexpr Times kTimes[] = {
    {"untorn_durable_call_seconds", "Calls that waited until something was durable.",
     &Stats::durable_call_latency},
    {"untorn_commit_seconds", "Commits, from the choice of their changes until they were durable.",
     &Stats::commit_latency},
    {"untorn_device_read_seconds", "Reads that went to the device.", &Stats::device_read_latency},
};
// The buckets end at these powers of two, in nanoseconds, and half way between them.
constexpr int kFirstPower = 12, kLastPower = 33;

// Returns the bytes of the UTF-8 character that `text` begins with, or 0.
size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const size_t bytes = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || bytes > text.size()) return 0;
  uint32_t code = byte(0) & (0xffu >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return code < kLeast[bytes] || code > 0x10ffff || surrogate ? 0 : bytes;
}

// Returns the value of a label. A path need not be UTF-8, but the format must be.
std::string Escaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    if (bytes == 0) {
      absl::StrAppendFormat(&out, "\\\\x%02x", static_cast<unsigned char>(text[0]));
    } else if (text[0] == '\n') {
      out += "\\n";
    } else {
      if (text[0] == '"' || text[0] == '\\') out += '\\';
      out.append(text.substr(0, bytes));
    }
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return out;
}

class Page {
 public:
  explicit Page(const StoreInfo& info) : store_(absl::StrCat("store=\"", Escaped(info.path), "\"")) {}

  void Begin(const char* name, const char* type, const char* help) {
    absl::StrAppend(&text_, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
  }
  // `labels` begins with a comma, if there are more.
  template <typename Value>
  void Add(const std::string& name, const std::string& labels, const Value& value) {
    absl::StrAppend(&text_, name, "{", store_, labels, "} ", value, "\n");
  }
  std::string Take() { return std::move(text_); }

 private:
  const std::string store_;
  std::string text_;
};

// Returns nanoseconds as seconds, without rounding.
std::string Seconds(uint64_t ns) { return absl::StrFormat("%d.%09d", ns / 1000000000, ns % 1000000000); }

uint64_t UnixTimeNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void AddTimes(const Times& member, const Stats& stats, Page* page) {
  const LatencyHistogram& times = stats.*member.times;
  page->Begin(member.name, "histogram", member.help);
  const std::string bucket_name = absl::StrCat(member.name, "_bucket");
  uint64_t count = 0;
  int bucket = 0;
  const auto add_until = [&](uint64_t end_ns) {
    while (LatencyHistogram::BucketEndNs(bucket) <= end_ns) count += times.count_in(bucket++);
    page->Add(bucket_name, absl::StrCat(",le=\"", Seconds(end_ns), "\""), count);
  };
  for (int power = kFirstPower; power <= kLastPower; ++power) {
    add_until(uint64_t{1} << power);
    add_until(uint64_t{3} << (power - 1));
  }
  page->Add(bucket_name, ",le=\"+Inf\"", times.count());
  page->Add(absl::StrCat(member.name, "_sum"), "", Seconds(times.sum_ns()));
  page->Add(absl::StrCat(member.name, "_count"), "", times.count());
}

}  // namespace

std::string PrometheusText(const StoreInfo& info, const Stats& stats) {
  Page page(info);
  page.Begin("untorn_store_info", "gauge", "What the store is; always 1.");
  page.Add("untorn_store_info",
           absl::StrCat(",uuid=\"", Escaped(info.uuid), "\",engine=\"", Escaped(info.engine),
                        "\",atomic_source=\"", Escaped(info.atomic_source), "\",version=\"",
                        std::string(kVersion), "\""),
           1);
  page.Begin("untorn_process_id", "gauge", "The process that has the store open.");
  page.Add("untorn_process_id", "", getpid());
  page.Begin("untorn_page_time_seconds", "gauge", "When this page was made, in seconds since 1970.");
  page.Add("untorn_page_time_seconds", "", Seconds(UnixTimeNs()));
  page.Begin("untorn_open_seconds", "gauge", "For how long the store has been open.");
  page.Add("untorn_open_seconds", "", Seconds(stats.open_ns));
  for (const Metric& m : kCounters) {
    page.Begin(m.name, "counter", m.help);
    page.Add(m.name, "", stats.*m.value);
  }
  page.Begin("untorn_change_sets_total", "counter", "Change sets by the reason of their path.");
  for (int i = 0; i < kPathReasonCount; ++i) {
    page.Add("untorn_change_sets_total",
             absl::StrCat(",reason=\"", PathReasonName(static_cast<PathReason>(i)), "\""),
             stats.change_sets_by_reason[i]);
  }
  for (const Metric& m : kGauges) {
    page.Begin(m.name, "gauge", m.help);
    page.Add(m.name, "", stats.*m.value);
  }
  page.Begin("untorn_log_size_bytes", "gauge", "What the log has room for.");
  page.Add("untorn_log_size_bytes", "", info.log_bytes);
  for (const Times& t : kTimes) AddTimes(t, stats, &page);
  return page.Take();
}

}  // namespace untorn
