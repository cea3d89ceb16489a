#include "integrations/rocksdb/uri.h"

#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace untorn::rocks {
namespace {

constexpr uint64_t kCacheMibMin = 4, kCacheMibMax = 1 << 20;

absl::StatusOr<uint64_t> NumberOf(const std::string& key, const std::string& value) {
  uint64_t number;
  if (absl::SimpleAtoi(value, &number)) return number;
  return absl::InvalidArgumentError(absl::StrCat(key, "=", value, ": not a number"));
}

absl::Status SetParameter(const std::string& key, const std::string& value, StoreOptions* options) {
  if (key == "mode") {
    if (value != "ro" && value != "rw")
      return absl::InvalidArgumentError(absl::StrCat("mode=", value, ": it is ro or rw"));
    options->open.read_only = value == "ro";
    return absl::OkStatus();
  }
  uint64_t number;
  ASSIGN_OR_RETURN(number, NumberOf(key, value));
  if (key == "store_create") {
    options->may_create = number != 0;
  } else if (key == "store_size") {
    options->create.size_bytes = number;
  } else if (key == "store_atomic_unit") {
    options->open.stated_atomic_unit_bytes = number;
  } else if (key == "store_cache_mib") {
    if (number != 0 && (number < kCacheMibMin || number > kCacheMibMax)) {
      return absl::InvalidArgumentError(absl::StrCat(key, "=", value, ": ", kCacheMibMin, " to ",
                                                     kCacheMibMax, ", or 0 for what fits the machine"));
    }
    options->open.cache_bytes = number << 20;
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", key,
        "': the parameters are mode, store_create, store_size, store_cache_mib and store_atomic_unit"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StoreUri> ParseUri(std::string_view uri) {
  const auto error = [&uri](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat("'", std::string(uri), "': ", what...));
  };
  if (!uri.starts_with(kScheme)) return error("the form is untorn://PATH[?PARAMETER=VALUE&...]");
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(std::string(uri.substr(kScheme.size())), absl::MaxSplits('?', 1));
  if (parts.first.empty()) return error("it names no store: untorn:///srv/db.untorn does");
  StoreUri parsed{.options = {.may_create = true}};
  for (const auto parameter : absl::StrSplit(parts.second, '&', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(parameter, absl::MaxSplits('=', 1));
    if (absl::Status s = SetParameter(pair.first, pair.second, &parsed.options); !s.ok())
      return error(s.message());
  }
  if (parsed.options.open.read_only) parsed.options.may_create = false;
  std::error_code failed;
  // Of a relative path that is not there yet weakly_canonical() would make nothing absolute.
  parsed.path =
      std::filesystem::weakly_canonical(std::filesystem::absolute(parts.first, failed), failed).string();
  if (failed) return error(failed.message());
  return parsed;
}

}  // namespace untorn::rocks
