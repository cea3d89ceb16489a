#include "inspect/store_json.h"

#include "inspect/printable.h"
#include "untorn/version.h"

namespace untorn {
namespace {

using Json = nlohmann::ordered_json;

constexpr StatsMember kCounters[] = {
    {"writes", &Stats::writes},
    {"bytes_written", &Stats::bytes_written, true},
    {"reads", &Stats::reads},
    {"bytes_read", &Stats::bytes_read, true},
    {"transactions", &Stats::transactions},
    {"commits", &Stats::commits},
    {"log_records", &Stats::log_records},
    {"log_bytes", &Stats::log_bytes, true},
    {"flushes", &Stats::flushes},
    {"durable_writes", &Stats::durable_writes},
    {"commits_in_lanes", &Stats::commits_in_lanes},
    {"settling_records", &Stats::settling_records},
    {"checkpoints", &Stats::checkpoints},
    {"device_writes", &Stats::device_writes},
    {"device_bytes_written", &Stats::device_bytes_written, true},
    {"device_reads", &Stats::device_reads},
    {"device_bytes_read", &Stats::device_bytes_read, true},
    {"requests_executed", &Stats::requests_executed},
    {"in_place_bytes", &Stats::in_place_bytes, true},
    {"cow_bytes", &Stats::cow_bytes, true},
    {"blocks_damaged", &Stats::blocks_damaged},
    {"blocks_excused", &Stats::blocks_excused},
    {"page_hits", &Stats::page_hits},
    {"page_misses", &Stats::page_misses},
    {"recovered_records", &Stats::recovered_records},
    {"dropped_records", &Stats::dropped_records},
    {"leases_granted", &Stats::leases_granted},
    {"leases_revoked", &Stats::leases_revoked},
};

constexpr StatsMember kState[] = {
    {"space_total", &Stats::space_total, true},
    {"space_free", &Stats::space_free, true},
    {"space_prepared", &Stats::space_prepared, true},
    {"space_reserved", &Stats::space_reserved, true},
    {"space_pending", &Stats::space_pending, true},
    {"space_leased", &Stats::space_leased, true},
    {"cache_limit", &Stats::cache_limit, true},
    {"cache_used", &Stats::cache_used, true},
    {"cache_dirty", &Stats::cache_dirty, true},
    {"lsn_last", &Stats::lsn_last},
    {"lsn_durable", &Stats::lsn_durable},
    {"lsn_settled", &Stats::lsn_settled},
    {"log_epoch", &Stats::log_epoch},
    {"log_used", &Stats::log_used, true},
    {"leases", &Stats::leases},
    {"open_ns", &Stats::open_ns},
};

constexpr LatencyMember kLatencies[] = {
    {"durable_call", &Stats::durable_call_latency},
    {"commit", &Stats::commit_latency},
    {"device_read", &Stats::device_read_latency},
};

}  // namespace

std::span<const LatencyMember> StatsLatencies() { return kLatencies; }
std::span<const StatsMember> StatsCounters() { return kCounters; }
std::span<const StatsMember> StatsState() { return kState; }

Json NameJson(const std::string& name) {
  Json json;
  PutName(json, name);
  return json;
}

Json InfoJson(const StoreInfo& info) {
  return {{"untorn_version", std::string(kVersion)},
          {"path", NameJson(info.path)["name"]},
          {"uuid", info.uuid},
          {"format_version", info.format_version},
          {"size_bytes", info.size_bytes},
          {"block_bytes", info.block_bytes},
          {"log_bytes", info.log_bytes},
          {"engine", info.engine},
          {"engine_reason", info.engine_reason},
          {"durable_road", info.durable_road},
          {"direct_io", info.direct_io},
          {"direct_io_note", info.direct_io_note},
          {"atomic_source", info.atomic_source},
          {"atomic_note", info.atomic_note},
          {"atomic_unit_min_bytes", info.atomic_unit_min_bytes},
          {"atomic_unit_max_bytes", info.atomic_unit_max_bytes},
          {"atomic_boundary_bytes", info.atomic_boundary_bytes},
          {"atomic_write_bytes_max", info.atomic_write_bytes_max},
          {"overwrite_reserve_bytes", info.overwrite_reserve_bytes},
          {"read_only", info.read_only},
          {"beside_owner", info.beside_owner}};
}

Json StatsJson(const Stats& stats) {
  Json counters;
  for (const StatsMember& counter : kCounters) counters[counter.name] = stats.*counter.value;
  Json reasons = Json::object();
  for (int i = 0; i < kPathReasonCount; ++i) {
    reasons[PathReasonName(static_cast<PathReason>(i))] = stats.change_sets_by_reason[i];
  }
  Json state;
  for (const StatsMember& counter : kState) state[counter.name] = stats.*counter.value;
  Json latencies;
  for (const LatencyMember& member : kLatencies) {
    const LatencyHistogram& times = stats.*member.times;
    latencies[member.name] = {{"count", times.count()},
                              {"sum_ns", times.sum_ns()},
                              {"p50_ns", times.PercentileNs(50)},
                              {"p99_ns", times.PercentileNs(99)},
                              {"p99_9_ns", times.PercentileNs(99.9)},
                              {"max_ns", times.PercentileNs(100)}};
  }
  return {{"state", state},
          {"since_open", counters},
          {"change_sets_by_reason", reasons},
          {"latencies", latencies}};
}

}  // namespace untorn
