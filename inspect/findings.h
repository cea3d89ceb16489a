// Collects what fsck finds.
#ifndef UNTORN_INSPECT_FINDINGS_H_
#define UNTORN_INSPECT_FINDINGS_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "extent/types.h"
#include "inspect/describe.h"
#include "untorn/inspect.h"

namespace untorn::internal {

// A result holds this many findings, or actions of a repair, in words. The rest are only counted.
inline constexpr size_t kFindingsInFull = 1000;

class Findings {
 public:
  explicit Findings(FsckResult& result) : result_(result) {}

  // The words are put together only for a finding that the result keeps.
  template <typename... Words>
  void Add(FindingCode code, const Words&... words) {
    if (result_.findings.size() < kFindingsInFull)
      result_.findings.push_back({code, absl::StrCat(Word(words)...)});
    ++result_.findings_total;
  }

 private:
  FsckResult& result_;
};

// Joins runs of blocks that lie side by side into one finding. The check of the free-space map finds such
// runs group by group.
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

  // Adds the finding about the last run.
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

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_FINDINGS_H_
