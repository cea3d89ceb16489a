#include "bench/loop_disk.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace untorn::bench {
namespace {

bool Succeeds(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoopDisk>> LoopDisk::Make(const std::string& image, const std::string& size,
                                                         const std::string& mkfs,
                                                         const std::string& mounted) {
  if (geteuid() != 0) return absl::PermissionDeniedError("only root can mount a file system");
  std::error_code error;
  std::filesystem::create_directories(mounted, error);
  // The loop device is detached at the umount, and the file lives as long as the device. So a process that is killed
  // leaves a mount, and nothing else.
  if (!Succeeds(absl::StrCat("truncate -s ", size, " '", image, "' && ", mkfs, " '", image,
                             "' && device=$(losetup --find --show --direct-io=on '", image,
                             "') && { mount \"$device\" '", mounted,
                             "'; result=$?; losetup --detach \"$device\"; "
                             "exit $result; }"))) {
    Succeeds(absl::StrCat("losetup --associated '", image,
                          "' --noheadings --output NAME | xargs -r losetup --detach"));
    std::filesystem::remove(image, error);
    return absl::FailedPreconditionError(absl::StrCat("no file system could be made and mounted in ", image));
  }
  std::filesystem::remove(image, error);
  return std::unique_ptr<LoopDisk>(new LoopDisk(mounted));
}

LoopDisk::~LoopDisk() { Succeeds(absl::StrCat("umount '", mounted_, "' || umount --lazy '", mounted_, "'")); }

}  // namespace untorn::bench
