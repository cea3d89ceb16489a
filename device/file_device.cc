#include "device/file_device.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "device/atomic_limits.h"
#include "device/file_backed_device.h"
#include "device/file_system.h"
#include "device/lock_holder.h"
#include "device/open_file.h"
#include "device/syscall_device.h"
#include "device/uring_device.h"

namespace untorn {
namespace {

constexpr std::chrono::milliseconds kLockPollInterval(10);
constexpr char kReadOnlyHint[] = "; a store there can be opened read-only";

absl::Status ErrnoStatus(int error, const std::string& what) {
  const char* const limit = error == EMFILE ? " (RLIMIT_NOFILE, ulimit -n)" : "";
  const std::string message = absl::StrCat(what, ": ", std::strerror(error), limit);
  if (error == EROFS) return absl::PermissionDeniedError(message + kReadOnlyHint);
  return absl::Status(absl::ErrnoToStatusCode(error), message);
}

// Says what follows from how direct I/O is done here.
std::string DirectIoNote(bool direct_io, const FileSystem& file_system) {
  if (!direct_io) {
    return "the file system refuses it, so data passes through the page cache, and nothing is overwritten in "
           "place";
  }
  if (file_system.may_cache_writes) {
    return absl::StrCat(
        "but ", file_system.name,
        " may take writes through the page cache, if it keeps checksums of the file (no chattr +C)");
  }
  return file_system.in_memory ? "but the file system is in memory" : "";
}

struct DirectOpen {
  OpenFile file;
  std::string buffered_reason;  // why it is not O_DIRECT; empty if it is
  bool beside_owner = false;
};

// True if the file can be read with O_DIRECT at our alignment: some file systems only say so at the first
// read.
bool CanReadDirect(int fd) {
  void* block = std::aligned_alloc(kBlockBytes, kBlockBytes);
  if (block == nullptr) return false;
  const ssize_t result = pread(fd, block, kBlockBytes, 0);
  const bool refused = result < 0 && (errno == EINVAL || errno == EOPNOTSUPP);
  std::free(block);
  return !refused;
}

// `error` is set if the result is not open.
DirectOpen TryOpen(const std::string& path, int flags, int* error) {
  DirectOpen result;
  result.file = OpenFile(open(path.c_str(), flags | O_DIRECT));
  *error = errno;
  if (result.file.is_open() && CanReadDirect(result.file.fd())) return result;
  if (!result.file.is_open() && *error != EINVAL) return result;
  result.buffered_reason = "the file system refuses direct I/O";
  // The claim of O_EXCL must end before the next open.
  result.file = OpenFile();
  result.file = OpenFile(open(path.c_str(), flags));
  *error = errno;
  return result;
}

absl::Status LockedStatus(const std::string& path, const LockHolder& holder, bool claimed_by_kernel) {
  const std::string what = absl::StrCat(path, ": open for ", holder.writing ? "writing" : "reading");
  if (holder.alive) return absl::FailedPreconditionError(absl::StrCat(what, " by process ", holder.pid));
  if (holder.pid != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, " by process ", holder.pid, ", which is exiting; its last requests are not done yet"));
  }
  if (claimed_by_kernel) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": the block device is in use (mounted, part of another device, or open in another program)"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      path,
      ": locked by a process that is gone or not visible from here; a child of it, or its last requests, ",
      "still hold the file"));
}

// Opens and locks. Polls while the lock is held by no live process.
absl::StatusOr<DirectOpen> OpenLocked(const std::string& path, bool block_device,
                                      const FileDeviceOptions& options) {
  int flags = O_CLOEXEC | (options.read_only ? O_RDONLY : O_RDWR);
  // On a block device O_EXCL refuses one that is mounted or otherwise claimed.
  if (block_device && !options.read_only) flags |= O_EXCL;
  const int lock = (options.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB;

  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(options.lock_wait_ms);
  while (true) {
    int error = 0;
    DirectOpen result = TryOpen(path, flags, &error);
    const bool claimed = !result.file.is_open() && error == EBUSY;
    if (!result.file.is_open() && !claimed) {
      return ErrnoStatus(
          error, absl::StrCat(path, ": cannot be opened for ", options.read_only ? "reading" : "writing"));
    }
    const bool must_be_beside = options.beside_owner == FileDeviceOptions::BesideOwner::kMust;
    bool locked = !claimed && !must_be_beside && flock(result.file.fd(), lock) == 0;
    if (!claimed && !must_be_beside && !locked && errno != EWOULDBLOCK && errno != EINTR) {
      return ErrnoStatus(errno, absl::StrCat(path, ": cannot be locked"));
    }
    if (!claimed && !locked && options.beside_owner != FileDeviceOptions::BesideOwner::kNever) {
      const ByteRange bytes = options.owner_bytes;
      ASSIGN_OR_RETURN(const std::optional<uint64_t> owner,
                       FindLockedByte(result.file.fd(), bytes.offset_bytes, bytes.length_bytes,
                                      /*exclusively=*/true));
      locked = result.beside_owner = owner.has_value();
      if (must_be_beside && !locked) {
        return absl::UnavailableError(absl::StrCat(path,
                                                   ": no process has the store open for writing now; refresh "
                                                   "again when one has, or open the store anew"));
      }
    }
    struct stat now, opened;
    if (stat(path.c_str(), &now) != 0) return ErrnoStatus(errno, absl::StrCat(path, ": cannot be opened"));
    if (locked) {
      if (fstat(result.file.fd(), &opened) != 0)
        return ErrnoStatus(errno, absl::StrCat(path, ": cannot be examined"));
      if (opened.st_dev == now.st_dev && opened.st_ino == now.st_ino) return result;
      continue;  // another file took its place (ReplaceStoreFile) before it was locked
    }
    const LockHolder holder = FindLockHolder(path, now);
    // An owner that is opening or closing the store lets others read a moment later, or earlier.
    const bool may_wait = !holder.alive || options.beside_owner != FileDeviceOptions::BesideOwner::kNever;
    if (!may_wait || std::chrono::steady_clock::now() >= deadline) {
      return LockedStatus(path, holder, claimed);
    }
    std::this_thread::sleep_for(kLockPollInterval);
  }
}

// A block device must have sectors that the store can write, and no write protection.
absl::Status CheckBlockDevice(int fd, const DeviceInfo& info) {
  int sector_bytes = 0;
  if (ioctl(fd, BLKSSZGET, &sector_bytes) == 0 && static_cast<uint64_t>(sector_bytes) > kBlockBytes) {
    return absl::InvalidArgumentError(absl::StrCat(info.path, ": its logical blocks have ", sector_bytes,
                                                   " bytes; at most ", kBlockBytes, " are supported"));
  }
  int write_protected = 0;
  if (!info.read_only && ioctl(fd, BLKROGET, &write_protected) == 0 && write_protected != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat(info.path, ": the block device is write-protected", kReadOnlyHint));
  }
  return absl::OkStatus();
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

absl::Status SyncDirectoryOf(const std::string& path) {
  const std::string directory = DirectoryOf(path);
  OpenFile file(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file.is_open() || fsync(file.fd()) != 0) {
    return ErrnoStatus(errno, absl::StrCat(directory, ": cannot be synced"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> OpenFileDevice(const std::string& path,
                                                       const FileDeviceOptions& options) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return ErrnoStatus(errno, absl::StrCat(path, ": cannot be opened"));
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": neither a regular file nor a block device"));
  }
  absl::StatusOr<DirectOpen> opened = OpenLocked(path, S_ISBLK(st.st_mode), options);
  if (!opened.ok()) return opened.status();

  DeviceInfo info;
  info.path = path;
  info.read_only = options.read_only;
  info.block_device = S_ISBLK(st.st_mode);
  info.needs_preparing = !info.block_device;
  info.has_name = fstat(opened->file.fd(), &st) == 0 && st.st_nlink > 0;
  info.direct_io = opened->buffered_reason.empty();
  info.beside_owner = opened->beside_owner;
  const FileSystem file_system = info.block_device ? FileSystem() : FileSystemOf(opened->file.fd());
  info.may_cache_writes = file_system.may_cache_writes;
  info.direct_io_note = DirectIoNote(info.direct_io, file_system);
  ASSIGN_OR_RETURN(info.size_bytes, SizeOfFile(opened->file.fd(), info));
  if (info.block_device) {
    RETURN_IF_ERROR(CheckBlockDevice(opened->file.fd(), info));
  } else if (!info.read_only) {
    RETURN_IF_ERROR(CheckFileLimit([&] { return absl::StrCat(path, ": has ", info.size_bytes, " bytes"); },
                                   info.size_bytes));
  }

  ASSIGN_OR_RETURN(AtomicFacts facts, GatherAtomicFacts(opened->file.fd(), path));
  facts.in_memory = file_system.in_memory;
  facts.stated_unit_bytes = options.stated_unit_bytes;
  facts.not_in_place = file_system.not_in_place;
  if (facts.stated_unit_bytes != 0 && facts.not_in_place.empty() && !info.block_device &&
      SharesBlocks(opened->file.fd()))
    facts.not_in_place =
        "the file shares blocks with other files (reflinks), so an overwrite of these goes elsewhere";
  absl::StatusOr<AtomicVerdict> verdict = DecideAtomicLimits(facts);
  if (!verdict.ok()) return verdict.status();
  info.atomic = verdict->limits;
  info.atomic_note = verdict->note;
  info.warning = verdict->warning;
  info.durable_note = DurableWriteNote(facts);

  if (!info.direct_io) {
    info.engine_reason = opened->buffered_reason;
  } else if (!options.use_io_uring) {
    info.engine_reason = "io_uring was not asked for";
  } else {
    absl::StatusOr<std::unique_ptr<Device>> device = UringDevice::Create(opened->file, info);
    if (device.ok() || !absl::IsUnavailable(device.status())) return device;
    info.engine_reason = std::string(device.status().message());
  }
  return std::make_unique<SyscallDevice>(std::move(opened->file), std::move(info));
}

absl::Status CreateStoreFile(const std::string& path) {
  OpenFile file(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file.is_open()) return ErrnoStatus(errno, absl::StrCat(path, ": cannot be created"));
  const absl::Status synced = SyncDirectoryOf(path);
  if (!synced.ok()) unlink(path.c_str());
  return synced;
}

absl::StatusOr<uint64_t> SizeOfFileSystem(const std::string& path) {
  struct statvfs fs;
  if (statvfs(DirectoryOf(path).c_str(), &fs) != 0) {
    return ErrnoStatus(errno,
                       absl::StrCat(DirectoryOf(path), ": the size of its file system cannot be read"));
  }
  return uint64_t{fs.f_blocks} * fs.f_frsize;
}

absl::StatusOr<std::string> FreshNameBeside(const std::string& path) {
  uint64_t number = 0;
  if (getrandom(&number, sizeof(number), 0) != static_cast<ssize_t>(sizeof(number)))
    return absl::InternalError(absl::StrCat(path, ": no random number for the name of a new file"));
  return absl::StrCat(path, ".new-", absl::Hex(number, absl::kZeroPad16));
}

absl::Status NameStoreFile(const std::string& from, const std::string& to) {
  int named = renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
  // Some file systems have one of the two ways only.
  if (named != 0 && errno != EEXIST) {
    named = link(from.c_str(), to.c_str());
    if (named == 0) unlink(from.c_str());
  }
  if (named != 0) return ErrnoStatus(errno, absl::StrCat(to, ": cannot be created"));
  return SyncDirectoryOf(to);
}

absl::Status ReplaceStoreFile(const std::string& from, const std::string& to) {
  struct stat st;
  if (stat(to.c_str(), &st) != 0) return ErrnoStatus(errno, absl::StrCat(to, ": cannot be replaced"));
  // Only root may give a file away; the group at least.
  if (chown(from.c_str(), st.st_uid, st.st_gid) != 0 && chown(from.c_str(), -1, st.st_gid) != 0) {
    st.st_mode &= ~S_IRWXG;
  }
  if (chmod(from.c_str(), st.st_mode & ALLPERMS) != 0)
    return ErrnoStatus(errno, absl::StrCat(from, ": cannot be given the permissions of ", to));
  if (rename(from.c_str(), to.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrCat(to, ": cannot be replaced"));
  return SyncDirectoryOf(to);
}

absl::StatusOr<std::string> ProbeForeignContent(const std::string& path) {
  OpenFile file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) return ErrnoStatus(errno, absl::StrCat(path, ": cannot be opened"));
  struct stat st;
  if (fstat(file.fd(), &st) != 0) return ErrnoStatus(errno, absl::StrCat(path, ": cannot be examined"));
  if (S_ISREG(st.st_mode) && st.st_size == 0) return std::string();

  blkid_probe probe = blkid_new_probe();
  if (probe == nullptr) return absl::ResourceExhaustedError(absl::StrCat(path, ": libblkid: no memory"));
  auto free_probe = absl::MakeCleanup([probe] { blkid_free_probe(probe); });
  if (blkid_probe_set_device(probe, file.fd(), 0, 0) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": libblkid cannot examine it"));
  }
  blkid_probe_enable_superblocks(probe, 1);
  blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  blkid_probe_enable_partitions(probe, 1);
  const int found = blkid_do_safeprobe(probe);
  if (found == 1) return std::string();
  if (found == -2) return std::string("contents of several kinds at once");
  if (found != 0) return absl::InternalError(absl::StrCat(path, ": libblkid could not read it"));

  const char* value = nullptr;
  if (blkid_probe_lookup_value(probe, "TYPE", &value, nullptr) == 0) {
    const std::string type = value;
    const bool has_usage = blkid_probe_lookup_value(probe, "USAGE", &value, nullptr) == 0;
    const std::string usage = has_usage ? value : "other";
    if (usage == "filesystem") return type + " file system";
    if (usage == "raid") return type + " RAID or LVM member";
    if (usage == "crypto") return type + " encrypted volume";
    return type + " contents";
  }
  if (blkid_probe_lookup_value(probe, "PTTYPE", &value, nullptr) == 0) {
    std::string type = value;
    if (type == "gpt") type = "GPT";
    if (type == "dos") type = "MBR";
    return type + " partition table";
  }
  return std::string("unknown contents");
}

}  // namespace untorn
