// Names and other bytes from outside, made fit to be read: object names may hold any byte but NUL.
#ifndef UNTORN_PRINTABLE_H_
#define UNTORN_PRINTABLE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace untorn {

// As one printable word: control characters, and bytes that are not UTF-8, are escaped.
std::string Printable(const std::string& name);
// Sets the members "name" and, where the name is not UTF-8, "name_hex".
void PutName(nlohmann::ordered_json& json, const std::string& name);

}  // namespace untorn

#endif  // UNTORN_PRINTABLE_H_
