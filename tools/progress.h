#ifndef UNTORN_TOOLS_PROGRESS_H_
#define UNTORN_TOOLS_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace untorn::tools {

// Progress on stderr: a bar on a terminal, else a line per ten percent; of what has no known end (total 0), how
// much is done. Belongs to one thread.
class Progress {
 public:
  Progress(std::string label, bool enabled);
  ~Progress();  // clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Update(uint64_t done, uint64_t total);  // bytes

 private:
  void UpdateWithoutEnd(uint64_t done);

  const std::string label_;
  const bool enabled_;
  const bool terminal_;
  bool drawn_ = false;
  int last_percent_ = 0;
  uint64_t next_line_ = 64 << 20;
  std::chrono::steady_clock::time_point last_drawn_;
};

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_PROGRESS_H_
