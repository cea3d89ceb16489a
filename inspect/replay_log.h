// Replays a log in memory, however damaged the log is.
#ifndef UNTORN_INSPECT_REPLAY_LOG_H_
#define UNTORN_INSPECT_REPLAY_LOG_H_

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "device/device.h"
#include "extent/delta.h"
#include "extent/log_reader.h"
#include "extent/superblock.h"

namespace untorn::internal {

// Reads the log's tail, applies its records to `delta`, and calls `each` for every record that counts. The
// result's `damage` says what is wrong with the log. The function fails only if the device fails.
absl::StatusOr<LogTail> ReplayLog(Device& device, const Superblock& superblock, Delta* delta,
                                  absl::FunctionRef<void(const LogRecord&)> each);

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_REPLAY_LOG_H_
