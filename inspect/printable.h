// Makes names and other bytes from outside readable. An object's name may hold any byte but NUL.
#ifndef UNTORN_INSPECT_PRINTABLE_H_
#define UNTORN_INSPECT_PRINTABLE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace untorn {

// Returns the name as one printable word, with control characters and bytes that are not UTF-8 escaped.
std::string Printable(const std::string& name);
// Sets the members "name" and, where the name is not UTF-8, "name_hex".
void PutName(nlohmann::ordered_json& json, const std::string& name);

}  // namespace untorn

#endif  // UNTORN_INSPECT_PRINTABLE_H_
