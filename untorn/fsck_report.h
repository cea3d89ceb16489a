// How the parts of fsck tell what they find and how far they are.
#ifndef UNTORN_FSCK_REPORT_H_
#define UNTORN_FSCK_REPORT_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "extent/types.h"
#include "untorn/inspect.h"
#include "untorn/inspect_reader.h"

namespace untorn::internal {

inline constexpr size_t kFindingsInFull = 1000;

inline std::string Message(const absl::Status& status) { return std::string(status.message()); }

class Findings {
 public:
  explicit Findings(FsckResult& result) : result_(result) {}
  // Words are put together only where they are kept.
  template <typename... Words>
  void Add(FindingCode code, const Words&... words) {
    if (result_.findings.size() < kFindingsInFull) result_.findings.push_back({code, absl::StrCat(words...)});
    ++result_.findings_total;
  }

 private:
  FsckResult& result_;
};

// Joins runs of blocks that are found group by group into one finding each.
class RunFindings {
 public:
  RunFindings(Findings& findings, FindingCode code, const char* meaning)
      : findings_(findings), code_(code), meaning_(meaning) {}
  void Add(Extent run) {
    if (held_.count > 0 && held_.end() == run.start) {
      held_.count += run.count;
      return;
    }
    Flush();
    held_ = run;
  }
  void Flush() {
    if (held_.count > 0) findings_.Add(code_, DescribeRun(held_), meaning_);
    held_ = {};
  }

 private:
  Findings& findings_;
  const FindingCode code_;
  const char* const meaning_;
  Extent held_;
};

// Tells how far fsck is, now and then.
class Progress {
 public:
  Progress(std::function<void(uint64_t, uint64_t)> report, uint64_t total)
      : report_(std::move(report)), total_(total) {}
  void Add(uint64_t blocks) {
    done_ += blocks;
    if (!report_ || done_ < next_) return;
    next_ = done_ + 256;
    report_(std::min(done_, total_), total_);
  }
  void Done() {
    if (report_) report_(total_, total_);
  }

 private:
  const std::function<void(uint64_t, uint64_t)> report_;
  const uint64_t total_;
  uint64_t done_ = 0, next_ = 0;
};

}  // namespace untorn::internal

#endif  // UNTORN_FSCK_REPORT_H_
