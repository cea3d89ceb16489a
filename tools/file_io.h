// Files outside the store.
#ifndef UNTORN_TOOLS_FILE_IO_H_
#define UNTORN_TOOLS_FILE_IO_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace untorn::tools {

inline constexpr size_t kPieceBytes = 1 << 20;

class InputFile {
 public:
  static absl::StatusOr<InputFile> Open(const std::string& path);  // "-" is stdin
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  int fd() const { return fd_; }
  uint64_t size() const { return size_; }  // 0 where it is not known, as of a pipe
  // Fills `out` unless the file ends first; returns the number of bytes.
  absl::StatusOr<size_t> Read(std::span<std::byte> out);

 private:
  InputFile(std::string name, int fd, uint64_t size) : name_(std::move(name)), fd_(fd), size_(size) {}
  std::string name_;
  int fd_;
  uint64_t size_;
};

// A file that appears under its name only when it is complete and durable. Until then it is
// NAME.untorn-XXXXXX, which is removed on failure and when the process is interrupted. "-" and things that
// are not regular files are written directly. One at a time in a process.
class OutputFile {
 public:
  // kAlreadyExists: the file exists and `replace` is false
  static absl::StatusOr<OutputFile> Create(const std::string& path, bool replace);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  absl::Status Write(std::span<const std::byte> data);
  absl::Status Finish();

 private:
  OutputFile(std::string path, std::string temporary, int fd, bool replace)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd), replace_(replace) {}
  std::string path_;
  std::string temporary_;  // "" when written directly
  int fd_;
  bool replace_;
};

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_FILE_IO_H_
