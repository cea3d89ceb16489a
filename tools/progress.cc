#include "tools/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/byte_size.h"

namespace untorn::tools {

Progress::Progress(std::string label, bool enabled)
    : label_(std::move(label)), enabled_(enabled), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::Update(uint64_t done, uint64_t total) {
  if (!enabled_) return;
  if (total == 0) return UpdateWithoutEnd(done);
  const int percent =
      static_cast<int>(100.0 * static_cast<double>(std::min(done, total)) / static_cast<double>(total));
  if (!terminal_) {
    if (percent / 10 == last_percent_ / 10) return;
    last_percent_ = percent;
    std::fprintf(stderr, "%s: %d %%\n", label_.c_str(), percent);
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && percent < 100 && now - last_drawn_ < std::chrono::milliseconds(100)) return;
  last_drawn_ = now;
  drawn_ = true;
  constexpr int kWidth = 40;
  std::string bar(static_cast<size_t>(percent * kWidth / 100), '#');
  bar.resize(kWidth, '.');
  std::fprintf(stderr, "\r%s [%s] %3d %%", label_.c_str(), bar.c_str(), percent);
}

void Progress::UpdateWithoutEnd(uint64_t done) {
  if (!terminal_) {
    if (done < next_line_) return;
    next_line_ = 2 * done;
    std::fprintf(stderr, "%s: %s\n", label_.c_str(), HumanBytes(done).c_str());
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_drawn_ < std::chrono::milliseconds(100)) return;
  last_drawn_ = now;
  drawn_ = true;
  std::fprintf(stderr, "\r%s %s\033[K", label_.c_str(), HumanBytes(done).c_str());
}

}  // namespace untorn::tools
