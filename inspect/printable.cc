#include "inspect/printable.h"

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"

namespace untorn {
namespace {

bool IsUtf8(const std::string& text) {
  try {
    nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

}  // namespace

std::string Printable(const std::string& name) {
  return IsUtf8(name) ? std::string(absl::Utf8SafeCEscape(name)) : absl::CHexEscape(name);
}

void PutName(nlohmann::ordered_json& json, const std::string& name) {
  const bool text = IsUtf8(name);
  json["name"] = text ? name : absl::CHexEscape(name);
  if (!text) json["name_hex"] = absl::BytesToHexString(name);
}

}  // namespace untorn
