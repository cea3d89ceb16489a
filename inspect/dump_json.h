// Writes JSON text piece by piece, and turns metadata into JSON.
#ifndef UNTORN_INSPECT_DUMP_JSON_H_
#define UNTORN_INSPECT_DUMP_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "extent/types.h"
#include "inspect/printable.h"

namespace untorn {

// How Json takes such a number.
template <typename Tag, typename Distance>
void to_json(nlohmann::ordered_json& json, StrongInt<Tag, Distance> number) {
  json = number.value();
}

}  // namespace untorn

namespace untorn::internal {

using Json = nlohmann::ordered_json;

inline std::string Text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}
inline Json ErrorJson(const absl::Status& status) { return std::string(status.message()); }
inline std::string Hex(uint64_t v) { return absl::StrFormat("0x%016x", v); }

inline Json PointerJson(BlockPointer pointer) {
  if (!pointer) return nullptr;
  return {{"block", pointer.block}, {"checksum", Hex(pointer.checksum)}};
}

inline const char* StateName(MappingState state) {
  switch (state) {
    case MappingState::kHole:
      return "hole";
    case MappingState::kWritten:
      return "written";
    case MappingState::kUnwritten:
      return "unwritten";
  }
  return "unknown";
}

// Appends the members of objects and arrays, each on a line of its own. Dump writes this way because a whole
// document of nlohmann_json would take several times the memory of its text.
class Writer {
 public:
  void Begin(char bracket) {
    out_ += bracket;
    first_ = true;
  }
  void End(char bracket) {
    out_ += '\n';
    out_ += bracket;
    first_ = false;
  }
  void Key(const char* key) {
    Separate();
    absl::StrAppend(&out_, "\"", key, "\": ");
  }
  void Member(const char* key, const Json& value) {
    Key(key);
    out_ += Text(value);
  }
  void Element(const Json& value) {
    Separate();
    out_ += Text(value);
  }
  void Separate() {
    out_ += first_ ? "\n" : ",\n";
    first_ = false;
  }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
  bool first_ = true;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_DUMP_JSON_H_
