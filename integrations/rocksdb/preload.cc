// With LD_PRELOAD, programs that use librocksdb.so know URIs that begin with "untorn://".
#include "integrations/rocksdb/untorn_rocksdb.h"

namespace {

const bool registered = [] {
  untorn::rocks::RegisterFileSystem();
  return true;
}();

}  // namespace
