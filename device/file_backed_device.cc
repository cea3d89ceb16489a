#include "device/file_backed_device.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace untorn {
namespace {

int64_t Call(int fd, Transfer* transfer) {
  const IoOp op = transfer->request()->op;
  const absl::Span<const iovec> iov = transfer->iov();
  const int count = static_cast<int>(iov.size());
  const off_t offset = static_cast<off_t>(transfer->offset_bytes());
  int64_t result = 0;
  if (op == IoOp::kFlush) {
    result = fdatasync(fd);
  } else if (op == IoOp::kRead) {
    result = preadv2(fd, iov.data(), count, offset, transfer->flags());
  } else {
    result = pwritev2(fd, iov.data(), count, offset, transfer->flags());
  }
  return result < 0 ? -errno : result;
}

}  // namespace

absl::StatusOr<uint64_t> SizeOfFile(int fd, const DeviceInfo& info) {
  uint64_t size_bytes = 0;
  struct stat st;
  const bool known = info.block_device ? ioctl(fd, BLKGETSIZE64, &size_bytes) == 0 : fstat(fd, &st) == 0;
  if (!known) return absl::ErrnoToStatus(errno, absl::StrCat(info.path, ": its size cannot be read"));
  if (!info.block_device) size_bytes = static_cast<uint64_t>(st.st_size);
  return size_bytes / kBlockBytes * kBlockBytes;
}

absl::Status CheckFileLimit(absl::FunctionRef<std::string()> what, uint64_t end_bytes) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || end_bytes <= limit.rlim_cur)
    return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(what(), ": the process may write only the first ", uint64_t{limit.rlim_cur},
                   " bytes of a file (RLIMIT_FSIZE, ulimit -f); raise the limit"));
}

FileBackedDevice::FileBackedDevice(DeviceInfo info) : size_bytes_(info.size_bytes) {
  info_ = std::move(info);
  info_.can_execute = true;
}

void FileBackedDevice::CarryOut(Transfer* transfer) const {
  while (!transfer->Finished(Call(file_.fd(), transfer))) {
  }
}

bool FileBackedDevice::Check(IoRequest* request) const {
  request->untried = false;
  request->status = CheckRequest(info_, size_bytes(), *request);
  if (!request->status.ok() || !IsWrite(request->op) || info_.block_device) return request->status.ok();
  const uint64_t end_bytes = request->offset_bytes + request->length_bytes();
  request->status = CheckFileLimit([&] { return DescribeRequest(info_, *request); }, end_bytes);
  request->untried = !request->status.ok();
  return request->status.ok();
}

void FileBackedDevice::Execute(IoRequest* request) {
  if (!Check(request)) return;
  Transfer transfer(&info_, request);
  CarryOut(&transfer);
}

absl::Status FileBackedDevice::SetSize(uint64_t size_bytes) {
  if (ftruncate(file_.fd(), static_cast<off_t>(size_bytes)) == 0) return absl::OkStatus();
  const std::string what =
      absl::StrCat(info_.path, ": cannot be given a size of ", size_bytes, " bytes: ", std::strerror(errno));
  const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
  return full ? absl::ResourceExhaustedError(what) : absl::InternalError(what);
}

absl::Status FileBackedDevice::Extend(uint64_t size_bytes) {
  // A block device may have grown since it was opened.
  // Beside an owner, a file may have become shorter too.
  ASSIGN_OR_RETURN(uint64_t now_bytes, SizeIfHolds(info_.beside_owner ? 0 : this->size_bytes()));
  if (now_bytes < size_bytes && !info_.block_device) {
    RETURN_IF_ERROR(CheckFileLimit(
        [&] { return absl::StrCat(info_.path, ": cannot be given a size of ", size_bytes, " bytes"); },
        size_bytes));
    RETURN_IF_ERROR(SetSize(size_bytes));
    now_bytes = size_bytes;
  }
  size_bytes_.store(now_bytes, std::memory_order_release);
  return now_bytes >= size_bytes ? absl::OkStatus() : Device::Extend(size_bytes);
}

absl::StatusOr<uint64_t> FileBackedDevice::SizeIfHolds(uint64_t bytes) const {
  ASSIGN_OR_RETURN(const uint64_t now_bytes, SizeOfFile(file_.fd(), info_));
  if (info_.block_device || now_bytes >= bytes) return now_bytes;
  return absl::DataLossError(absl::StrCat(info_.path, ": the file has ", now_bytes, " bytes and had ", bytes,
                                          ": another program has cut it short; restore it from a copy"));
}

absl::Status FileBackedDevice::CheckHolds(uint64_t bytes) const {
  if (info_.block_device) return absl::OkStatus();
  struct stat st;
  if (info_.has_name && fstat(file_.fd(), &st) == 0 && st.st_nlink == 0) {
    return absl::DataLossError(absl::StrCat(info_.path,
                                            ": another program has removed the file, or put another one in "
                                            "its place; what is written here ends with the ",
                                            "process; while it runs, /proc/", getpid(), "/fd/", file_.fd(),
                                            " has what was written"));
  }
  return SizeIfHolds(bytes).status();
}

absl::Status FileBackedDevice::Shorten(uint64_t size_bytes) {
  if (info_.block_device || this->size_bytes() <= size_bytes) return absl::OkStatus();
  RETURN_IF_ERROR(SetSize(size_bytes));
  size_bytes_.store(size_bytes, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status FileBackedDevice::LockByte(uint64_t byte, ByteLock kind) {
  const int error = LockBytes(file_.fd(), byte, 1, kind == ByteLock::kExclusive ? F_WRLCK : F_RDLCK);
  if (error == 0) return absl::OkStatus();
  if (error == EAGAIN || error == EACCES) {
    return absl::UnavailableError(absl::StrCat(info_.path, ": byte ", byte, " is locked by another process"));
  }
  return absl::ErrnoToStatus(error, absl::StrCat(info_.path, ": byte ", byte, " cannot be locked"));
}

absl::Status FileBackedDevice::UnlockByte(uint64_t byte) {
  const int error = LockBytes(file_.fd(), byte, 1, F_UNLCK);
  if (error == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(error, absl::StrCat(info_.path, ": byte ", byte, " cannot be unlocked"));
}

absl::StatusOr<std::optional<uint64_t>> FileBackedDevice::FindLock(uint64_t first, uint64_t count,
                                                                   ByteLock kind) const {
  return FindLockedByte(file_.fd(), first, count, kind == ByteLock::kExclusive);
}

}  // namespace untorn
