// Paths of RocksDB, and names of objects. The file "/db/000004.log" is the object "db/000004.log". The directory "/db" is
// there if the object "db/" is, or any object whose name begins so.
#ifndef UNTORN_INTEGRATIONS_ROCKSDB_NAMES_H_
#define UNTORN_INTEGRATIONS_ROCKSDB_NAMES_H_

#include <string>
#include <string_view>

namespace untorn::rocks {

// The name of a file's object: the path without its first '/', and without ".", ".." and doubled '/'.
std::string FileName(std::string_view path);
// What the names of all objects in a directory begin with, and the name of the directory's own object: "db/". "" for "/".
std::string DirectoryName(std::string_view path);
// Is not less than any name that begins with `prefix`.
std::string LastNameWith(std::string_view prefix);

}  // namespace untorn::rocks

#endif  // UNTORN_INTEGRATIONS_ROCKSDB_NAMES_H_
