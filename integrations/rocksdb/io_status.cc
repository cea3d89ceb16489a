#include "integrations/rocksdb/io_status.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace untorn::rocks {

using ::rocksdb::IOStatus;

IOStatus ToIoStatus(const absl::Status& status, std::string_view what, std::string_view name) {
  if (status.ok()) return IOStatus::OK();
  const std::string context = absl::StrCat("untorn: ", std::string(what), " ", std::string(name));
  const std::string message(status.message());
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return IOStatus::PathNotFound(context, message);
    case absl::StatusCode::kDataLoss:
      return IOStatus::Corruption(context, message);
    // The second means that what was written is not durable for the same reason.
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      return IOStatus::NoSpace(context, message);
    case absl::StatusCode::kInvalidArgument:
      return IOStatus::InvalidArgument(context, message);
    case absl::StatusCode::kUnimplemented:
      return IOStatus::NotSupported(context, message);
    default:
      return IOStatus::IOError(context, message);
  }
}

}  // namespace untorn::rocks
