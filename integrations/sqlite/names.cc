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
  return absl::StrReplaceAll(std::string(store_path), {{"%", "%25"}, {":", "%3a"}}) + ":";
}

// The store of drivers that give no URI: as the variable was, and from where the process was, when it was first found.
std::string StoreOfEnvironment() {
  const char* path = std::getenv("UNTORN_STORE");
  if (path == nullptr || *path == '\0') return "";
  static const std::string& store = *new std::string([path] {
    std::error_code error;
    return std::filesystem::absolute(path, error).string();
  }());
  return store;
}

}  // namespace

absl::StatusOr<std::string> StorePath(const char* uri_name) {
  const char* parameter = sqlite3_uri_parameter(uri_name, "store");
  const std::string store =
      parameter != nullptr && *parameter != '\0' ? std::string(parameter) : StoreOfEnvironment();
  if (store.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", uri_name, "' names no store: open 'file:", uri_name,
                     "?vfs=untorn&store=PATH', or set UNTORN_STORE=PATH in the environment"));
  }
  std::error_code error;
  // Of a relative path that is not there yet it would make nothing absolute.
  const std::filesystem::path absolute = std::filesystem::absolute(store, error);
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(absolute, error);
  if (!error) return canonical.string();
  return absl::InvalidArgumentError(absl::StrCat("store '", store, "': ", error.message()));
}

std::string FullName(std::string_view store_path, std::string_view name) {
  const std::string prefix = Prefix(store_path);
  // Programs open by the name that SQLite tells, too.
  if (name.starts_with(prefix)) return std::string(name);
  return prefix + std::filesystem::path(name).lexically_normal().string();
}

std::string NameInStore(std::string_view store_path, std::string_view full_name) {
  const std::string prefix = Prefix(store_path);
  return std::string(full_name.starts_with(prefix) ? full_name.substr(prefix.size()) : full_name);
}

std::string StoreOf(std::string_view full_name) {
  return absl::StrReplaceAll(std::string(full_name.substr(0, full_name.find(':'))),
                             {{"%25", "%"}, {"%3a", ":"}});
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
