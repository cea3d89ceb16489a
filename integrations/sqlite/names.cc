#include "integrations/sqlite/names.h"

#include <cstdlib>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "integrations/sqlite/api.h"

namespace untorn::sqlite {
namespace {

constexpr std::string_view kJournal = "-journal";
// "-mj" and nine digits of base 16 (sqlite3 vdbeaux.c)
constexpr std::string_view kSuperJournal = "-mj";
constexpr size_t kSuperJournalBytes = 12;

std::string Prefix(std::string_view store_path) {
  const size_t slash = store_path.rfind('/') + 1;
  const std::string own(store_path.substr(slash));
  return absl::StrCat(std::string(store_path.substr(0, slash)),
                      absl::StrReplaceAll(own, {{"%", "%25"}, {":", "%3a"}}), ":");
}

}  // namespace

absl::StatusOr<std::string> StorePath(const char* uri_name) {
  const char* store = sqlite3_uri_parameter(uri_name, "store");
  if (store == nullptr || *store == '\0') store = std::getenv("UNTORN_STORE");
  if (store == nullptr || *store == '\0') {
    return absl::InvalidArgumentError(
        absl::StrCat("'", uri_name, "' names no store: open 'file:", uri_name,
                     "?vfs=untorn&store=PATH', or set UNTORN_STORE=PATH in the environment"));
  }
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(store, error);
  if (!error) return canonical.string();
  return absl::InvalidArgumentError(absl::StrCat("store '", store, "': ", error.message()));
}

std::string FullName(std::string_view store_path, std::string_view name) {
  return Prefix(store_path) + std::filesystem::path(name).lexically_normal().string();
}

std::string NameInStore(std::string_view store_path, std::string_view full_name) {
  const std::string prefix = Prefix(store_path);
  return std::string(full_name.starts_with(prefix) ? full_name.substr(prefix.size()) : full_name);
}

std::string JournalName(std::string_view full_name) { return std::string(full_name).append(kJournal); }

std::string DatabaseOf(std::string_view journal_name) {
  return std::string(journal_name.ends_with(kJournal)
                         ? journal_name.substr(0, journal_name.size() - kJournal.size())
                         : journal_name);
}

bool IsSuperJournal(std::string_view name) {
  return name.size() > kSuperJournalBytes &&
         name.substr(name.size() - kSuperJournalBytes).starts_with(kSuperJournal) &&
         !name.ends_with(kJournal);
}

bool IsJournal(std::string_view name) { return name.ends_with(kJournal) || IsSuperJournal(name); }

std::string_view MainOfSuperJournal(std::string_view name) {
  return name.substr(0, name.size() - kSuperJournalBytes);
}

}  // namespace untorn::sqlite
