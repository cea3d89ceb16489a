#include "tools/output.h"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/byte_size.h"
#include "inspect/printable.h"

namespace untorn::tools {
namespace {

constexpr size_t kOneLineMembersMax = 3;

std::string Line(absl::string_view name, absl::string_view value) {
  return absl::StrFormat("%-24s%s\n", name, value);
}

std::string Size(uint64_t bytes) {
  return bytes < 1024 ? HumanBytes(bytes) : absl::StrCat(HumanBytes(bytes), " (", bytes, ")");
}

// How a scalar is shown in a table or after a name: long hexadecimal is cut.
std::string Scalar(const Json& value) {
  constexpr size_t kWordMax = 200, kCutTo = 64;
  if (!value.is_string()) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string text;
  for (const char c : value.get<std::string>()) {
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    if (control) {
      absl::StrAppendFormat(&text, "\\x%02x", c);
    } else {
      text += c;
    }
  }
  if (text.size() > kWordMax && text.find(' ') == std::string::npos) text = text.substr(0, kCutTo) + "...";
  return text;
}

// "1 finding", "2 findings".
std::string Count(uint64_t number, const char* what) {
  return absl::StrCat(number, " ", what, number == 1 ? "" : "s");
}

bool IsFlatObject(const Json& value) {
  return value.is_object() &&
         std::all_of(value.begin(), value.end(), [](const Json& member) { return member.is_primitive(); });
}

void AppendTable(const Json& rows, const std::string& indent, std::string* out) {
  std::vector<std::string> columns;
  for (const Json& row : rows) {
    for (const auto& [name, value] : row.items()) {
      if (std::find(columns.begin(), columns.end(), name) == columns.end()) columns.push_back(name);
    }
  }
  std::vector<std::vector<std::string>> cells = {columns};
  std::vector<size_t> widths;
  for (const std::string& column : columns) widths.push_back(column.size());
  for (const Json& row : rows) {
    std::vector<std::string> line;
    for (size_t i = 0; i < columns.size(); ++i) {
      line.push_back(row.contains(columns[i]) ? Scalar(row[columns[i]]) : "-");
      widths[i] = std::max(widths[i], line.back().size());
    }
    cells.push_back(std::move(line));
  }
  for (const auto& line : cells) {
    std::string text = indent;
    for (size_t i = 0; i < line.size(); ++i)
      absl::StrAppend(&text, line[i], std::string(widths[i] - line[i].size() + 2, ' '));
    text.erase(text.find_last_not_of(' ') + 1);
    absl::StrAppend(out, text, "\n");
  }
}

void AppendValue(const std::string& name, const Json& value, const std::string& indent, std::string* out) {
  if (value.is_primitive()) {
    absl::StrAppend(out, indent, name, ": ", Scalar(value), "\n");
    return;
  }
  if (value.empty()) {
    absl::StrAppend(out, indent, name, ": none\n");
    return;
  }
  const std::string deeper = indent + "  ";
  if (value.is_object() && value.size() <= kOneLineMembersMax && IsFlatObject(value)) {
    std::string line;
    for (const auto& [member, inner] : value.items()) {
      absl::StrAppend(&line, line.empty() ? "" : ", ", member, " ", Scalar(inner));
    }
    absl::StrAppend(out, indent, name, ": ", line, "\n");
    return;
  }
  if (value.is_object()) {
    absl::StrAppend(out, indent, name, "\n");
    for (const auto& [member, inner] : value.items()) AppendValue(member, inner, deeper, out);
    return;
  }
  if (std::all_of(value.begin(), value.end(), [](const Json& item) { return item.is_primitive(); })) {
    std::string line;
    for (const Json& item : value) absl::StrAppend(&line, line.empty() ? "" : " ", Scalar(item));
    absl::StrAppend(out, indent, name, ": ", line, "\n");
    return;
  }
  absl::StrAppend(out, indent, name, " (", value.size(), ")\n");
  if (std::all_of(value.begin(), value.end(), IsFlatObject)) {
    AppendTable(value, deeper, out);
    return;
  }
  for (size_t i = 0; i < value.size(); ++i) AppendValue(absl::StrCat("[", i, "]"), value[i], deeper, out);
}

std::string CounterText(std::span<const StatsMember> counters, const Stats& stats) {
  std::string out;
  for (const StatsMember& counter : counters) {
    std::string name = counter.name;
    std::replace(name.begin(), name.end(), '_', ' ');
    const uint64_t value = stats.*counter.value;
    out += Line(absl::StrCat("  ", name), counter.bytes ? Size(value) : absl::StrCat(value));
  }
  return out;
}

std::string Unit(uint64_t minimum, uint64_t maximum) {
  return maximum == 0 ? "none: every write goes by copy-on-write"
                      : absl::StrCat(HumanBytes(minimum), " to ", HumanBytes(maximum));
}

}  // namespace

std::string InfoText(const StoreInfo& info) {
  std::string out;
  out += Line("store", Printable(info.path));
  out += Line("uuid", info.uuid);
  out += Line("format version", absl::StrCat(info.format_version));
  out += Line("size", Size(info.size_bytes));
  out += Line("log", Size(info.log_bytes));
  out += Line("kept for overwrites", absl::StrCat(HumanBytes(info.overwrite_reserve_bytes),
                                                  ", so that a full store can be changed and emptied"));
  out += Line("block", HumanBytes(info.block_bytes));
  out += Line("atomic writes",
              absl::StrCat("up to ", HumanBytes(info.atomic_write_bytes_max), ", any byte range"));
  out += Line("in-place unit", Unit(info.atomic_unit_min_bytes, info.atomic_unit_max_bytes));
  if (info.atomic_boundary_bytes != 0)
    out += Line("in-place boundary", HumanBytes(info.atomic_boundary_bytes));
  out += Line("atomic support", info.atomic_note);
  out += Line("engine", info.engine);
  if (!info.engine_reason.empty()) out += Line("", info.engine_reason);
  out += Line("direct I/O", absl::StrCat(info.direct_io ? "yes" : "no",
                                         info.direct_io_note.empty() ? "" : ": ", info.direct_io_note));
  out += Line("durable commit", info.durable_road);
  if (info.beside_owner)
    out += Line("open elsewhere", "for writing; what is read here is a state of the store");
  return out;
}

std::string ReasonsText(const Stats& stats) {
  std::string out;
  for (int i = 0; i < kPathReasonCount; ++i) {
    if (stats.change_sets_by_reason[i] == 0) continue;
    const auto reason = static_cast<PathReason>(i);
    absl::StrAppendFormat(&out, "  %-24s%8d  %s\n", PathReasonName(reason), stats.change_sets_by_reason[i],
                          PathReasonSentence(reason));
  }
  return out.empty() ? "  none\n" : out;
}

std::string LatenciesText(const Stats& stats) {
  std::string out;
  for (const LatencyMember& member : StatsLatencies()) {
    const LatencyHistogram& times = stats.*member.times;
    if (times.count() == 0) continue;
    std::string name = member.name;
    std::replace(name.begin(), name.end(), '_', ' ');
    const auto us = [&](double percent) { return static_cast<double>(times.PercentileNs(percent)) / 1000; };
    absl::StrAppendFormat(&out, "  %-14s%8d  p50 %.1f us, p99 %.1f us, p99.9 %.1f us, max %.1f us\n", name,
                          times.count(), us(50), us(99), us(99.9), us(100));
  }
  return out.empty() ? "  nothing was timed\n" : out;
}

std::string StatsText(const Stats& stats) {
  return absl::StrCat(
      "Now\n", CounterText(StatsState(), stats), "\nSince the store was opened, which was by this command\n",
      CounterText(StatsCounters(), stats), "\nUnits of writeback by path and reason, since then\n",
      ReasonsText(stats), "\nHow long it took, since then\n", LatenciesText(stats));
}

Json FsckJson(const std::string& path, const FsckResult& result) {
  Json findings = Json::array();
  for (const Finding& finding : result.findings) {
    findings.push_back({{"code", static_cast<int>(finding.code)},
                        {"name", FindingCodeName(finding.code)},
                        {"what", NameJson(finding.what)["name"]}});
  }
  return {{"path", NameJson(path)["name"]},
          {"clean", result.findings_total == 0},
          {"findings_total", result.findings_total},
          {"findings", findings},
          {"objects", result.objects},
          {"names", result.names},
          {"mappings", result.mappings},
          {"mapped_blocks", result.mapped_blocks},
          {"unwritten_blocks", result.unwritten_blocks},
          {"tree_nodes", result.tree_nodes},
          {"blocks_total", result.blocks_total},
          {"blocks_used", result.blocks_used},
          {"generation", result.generation},
          {"log_epoch", result.log_epoch},
          {"log_records", result.log_records},
          {"log_records_dropped", result.log_records_dropped},
          {"lsn_checkpoint", result.lsn_checkpoint},
          {"lsn_recovered", result.lsn_recovered},
          {"beside_owner", result.beside_owner},
          {"data_checked", result.data_checked},
          {"data_blocks_checked", result.data_blocks_checked},
          {"data_blocks_excused", result.data_blocks_excused}};
}

Json TrimJson(const std::string& path, const TrimResult& result) {
  return {{"path", NameJson(path)["name"]},
          {"before_bytes", result.before_bytes},
          {"after_bytes", result.after_bytes},
          {"moved_bytes", result.moved_bytes}};
}

std::string TrimText(const std::string& path, const TrimResult& result) {
  return absl::StrCat(Printable(path), ": ", Size(result.after_bytes), ", before ", Size(result.before_bytes),
                      "; ", Size(result.moved_bytes), " moved\n");
}

Json ScrubJson(const std::string& path, const ScrubResult& result) {
  Json damaged = Json::array();
  for (const DamagedRange& range : result.damaged) {
    Json entry = NameJson(range.object);
    entry["id"] = range.object_id;
    entry["offset_bytes"] = range.offset_bytes;
    entry["length_bytes"] = range.length_bytes;
    entry["why"] = NameJson(range.why)["name"];
    damaged.push_back(std::move(entry));
  }
  return {{"path", NameJson(path)["name"]},
          {"clean", result.damaged_total == 0},
          {"objects", result.objects},
          {"bytes", result.bytes},
          {"damaged_total", result.damaged_total},
          {"damaged_bytes", result.damaged_bytes},
          {"blocks_adopted", result.blocks_adopted},
          {"damaged", damaged}};
}

std::string ScrubText(const std::string& path, const ScrubResult& result) {
  std::string out;
  for (const DamagedRange& range : result.damaged) {
    absl::StrAppend(&out, "'", Printable(range.object), "', bytes ", range.offset_bytes, " to ",
                    range.offset_bytes + range.length_bytes - 1, ": ", Printable(range.why), "\n");
  }
  if (result.damaged_total > result.damaged.size()) {
    absl::StrAppend(&out, "and ", result.damaged_total - result.damaged.size(), " more\n");
  }
  absl::StrAppend(&out, Count(result.objects, "object"), ", ", Size(result.bytes), " read");
  if (result.blocks_adopted > 0) {
    absl::StrAppend(&out, ", ", Count(result.blocks_adopted, "block"), " left open by a crash adopted");
  }
  absl::StrAppend(&out, "\n", Printable(path), ": ",
                  result.damaged_total == 0 ? "clean" : Count(result.damaged_total, "damaged range"), "\n");
  return out;
}

std::string FsckText(const std::string& path, const FsckResult& result) {
  std::string out;
  for (const Finding& finding : result.findings) {
    absl::StrAppendFormat(&out, "%s (%d): %s\n", FindingCodeName(finding.code),
                          static_cast<int>(finding.code), finding.what);
  }
  if (result.findings_total > result.findings.size()) {
    absl::StrAppend(&out, "and ", result.findings_total - result.findings.size(), " more\n");
  }
  if (result.blocks_total > 0) {
    absl::StrAppend(&out, Count(result.objects, "object"), ", ", Count(result.mappings, "mapping"), ", ",
                    Count(result.tree_nodes, "tree node"), ", ", result.blocks_used, " of ",
                    result.blocks_total, " blocks used");
    if (result.beside_owner) {
      absl::StrAppend(
          &out,
          "; another process has the store open for writing, so a state of it was checked, without "
          "the log, the free-space map and leaks\n");
    } else {
      absl::StrAppend(&out, ", ", Count(result.log_records, "log record"), " (", result.log_records_dropped,
                      " incomplete at the end)\n");
    }
  }
  if (result.data_checked) {
    absl::StrAppend(&out, "data: ", Count(result.data_blocks_checked, "block"), " read, ",
                    result.data_blocks_excused, " taken at the device's word\n");
  }
  absl::StrAppend(&out, Printable(path), ": ",
                  result.findings_total == 0 ? "clean" : Count(result.findings_total, "finding"), "\n");
  return out;
}

Json RepairJson(const std::string& path, const RepairResult& result, bool dry_run) {
  Json actions = Json::array();
  for (const std::string& action : result.actions) actions.push_back(NameJson(action)["name"]);
  Json json = {
      {"path", NameJson(path)["name"]},        {"dry_run", dry_run}, {"repaired", result.repaired},
      {"actions_total", result.actions_total}, {"actions", actions}, {"quarantined", result.quarantined},
      {"found", FsckJson(path, result.found)}};
  if (result.repaired) json["after"] = FsckJson(path, result.after);
  return json;
}

std::string RepairPlanText(const std::string& path, const RepairResult& plan, bool dry_run) {
  std::string out = FsckText(path, plan.found);
  absl::StrAppend(&out, dry_run ? "A repair would\n" : "The repair will\n");
  for (const std::string& action : plan.actions) absl::StrAppend(&out, "  ", action, "\n");
  if (plan.actions_total > plan.actions.size())
    absl::StrAppend(&out, "  and ", plan.actions_total - plan.actions.size(), " more\n");
  return out;
}

std::string JsonAsText(const Json& json) {
  std::string out;
  if (!json.is_object()) {
    AppendValue("value", json, "", &out);
    return out;
  }
  for (const auto& [name, value] : json.items()) AppendValue(name, value, "", &out);
  return out;
}

void PrintText(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void PrintJson(const Json& json) {
  PrintText(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace untorn::tools
