// Files outside a store: input that may be a pipe, and output that is complete or not there.
#ifndef UNTORN_BASE_FILE_IO_H_
#define UNTORN_BASE_FILE_IO_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace untorn {

// How much programs read or write of a file at a time.
inline constexpr size_t kFilePieceBytes = 1 << 20;

class InputFile {
 public:
  // "-" stands for stdin.
  static absl::StatusOr<InputFile> Open(const std::string& path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  int fd() const { return fd_; }
  // 0 if the size is unknown, as for a pipe.
  uint64_t size() const { return size_; }
  // Fills `out` unless the file ends first. Returns the number of bytes read.
  absl::StatusOr<size_t> Read(std::span<std::byte> out);

 private:
  InputFile(std::string name, int fd, uint64_t size) : name_(std::move(name)), fd_(fd), size_(size) {}
  std::string name_;
  int fd_;
  uint64_t size_;
};

// A file that appears under its name only when it is complete and durable. Until then the data is in a file
// called NAME.untorn-XXXXXX. That file is removed on failure, and when the process is interrupted. "-"
// (stdout) and things that are not regular files are written directly. A process writes one OutputFile at a
// time.
class OutputFile {
 public:
  // kAlreadyExists: the file exists, and `replace` is false.
  static absl::StatusOr<OutputFile> Create(const std::string& path, bool replace);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  absl::Status Write(std::span<const std::byte> data);
  // Makes the file durable and gives it its name.
  absl::Status Finish();

 private:
  OutputFile(std::string path, std::string temporary, int fd, bool replace)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd), replace_(replace) {}
  std::string path_;
  std::string temporary_;  // "" if the file is written directly
  int fd_;
  bool replace_;
};

}  // namespace untorn

#endif  // UNTORN_BASE_FILE_IO_H_
