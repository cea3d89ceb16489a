#include "base/file_io.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace untorn {
namespace {

absl::Status FileError(const std::string& name, int error) { return absl::ErrnoToStatus(error, name); }

// The name of the unfinished file, for the signal handler.
char unfinished_path[4096];
volatile sig_atomic_t unfinished = 0;

void RemoveUnfinished(int signal_number) {
  if (unfinished) unlink(unfinished_path);
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

void GuardUnfinished(const std::string& path) {
  if (path.size() >= sizeof(unfinished_path)) return;
  std::memcpy(unfinished_path, path.c_str(), path.size() + 1);
  unfinished = 1;
  for (int signal_number : {SIGINT, SIGTERM, SIGHUP}) signal(signal_number, RemoveUnfinished);
}

absl::Status SyncDirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError(directory, errno);
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  // Some file systems cannot sync a directory; the file itself is safe.
  return result == 0 || error == EINVAL ? absl::OkStatus() : FileError(directory, error);
}

}  // namespace

absl::StatusOr<InputFile> InputFile::Open(const std::string& path) {
  if (path == "-") return InputFile("stdin", STDIN_FILENO, 0);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(path, errno);
  InputFile file(path, fd, 0);
  struct stat status;
  if (fstat(fd, &status) != 0) return FileError(path, errno);
  if (S_ISDIR(status.st_mode)) return FileError(path, EISDIR);
  if (S_ISREG(status.st_mode)) file.size_ = static_cast<uint64_t>(status.st_size);
  return file;
}

InputFile::InputFile(InputFile&& other) noexcept
    : name_(std::move(other.name_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

InputFile::~InputFile() {
  if (fd_ > STDIN_FILENO) close(fd_);
}

absl::StatusOr<size_t> InputFile::Read(std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t count = read(fd_, out.data() + done, out.size() - done);
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(name_, errno);
    done += static_cast<size_t>(count);
  }
  return done;
}

absl::StatusOr<OutputFile> OutputFile::Create(const std::string& path, bool replace) {
  if (path == "-") return OutputFile("stdout", "", STDOUT_FILENO, true);
  struct stat status;
  const bool exists = stat(path.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) return FileError(path, EISDIR);
  if (exists && !S_ISREG(status.st_mode)) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return FileError(path, errno);
    return OutputFile(path, "", fd, true);
  }
  if (exists && !replace) return absl::AlreadyExistsError(absl::StrCat(path, " exists"));
  std::string temporary = absl::StrCat(path, ".untorn-XXXXXX");
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return FileError(path, errno);
  GuardUnfinished(temporary);
  OutputFile file(path, temporary, fd, replace);
  const mode_t mask = umask(0);
  umask(mask);
  if (fchmod(fd, exists ? status.st_mode & 07777 : 0666 & ~mask) != 0) return FileError(temporary, errno);
  return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, "")),
      fd_(std::exchange(other.fd_, -1)),
      replace_(other.replace_) {}

OutputFile::~OutputFile() {
  if (fd_ > STDERR_FILENO) close(fd_);
  if (!temporary_.empty()) {
    unfinished = 0;
    unlink(temporary_.c_str());
  }
}

absl::Status OutputFile::Write(std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t count = write(fd_, data.data(), data.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(path_, errno);
    data = data.subspan(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Finish() {
  if (temporary_.empty()) return absl::OkStatus();
  if (fsync(fd_) != 0) return FileError(path_, errno);
  if (close(std::exchange(fd_, -1)) != 0) return FileError(path_, errno);
  if (replace_) {
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return FileError(path_, errno);
    temporary_.clear();
  } else if (link(temporary_.c_str(), path_.c_str()) != 0) {
    if (errno == EEXIST) return absl::AlreadyExistsError(absl::StrCat(path_, " has appeared meanwhile"));
    // No hard links here (FAT, some network file systems).
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return FileError(path_, errno);
    temporary_.clear();
  }
  unfinished = 0;
  if (!temporary_.empty()) unlink(std::exchange(temporary_, "").c_str());
  return SyncDirectoryOf(path_);
}

}  // namespace untorn
