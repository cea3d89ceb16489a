#include "tests/explore/step.h"

#include <cstdio>
#include <cstdlib>
#include <deque>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace untorn {
namespace {

struct Form {
  Step::Kind kind;
  const char* word;
  const char* arguments;  // o: object, t: to, f: offset, n: length
};
constexpr Form kForms[] = {
    {Step::kWrite, "write", "ofn"},
    {Step::kPlainWrite, "plain", "ofn"},
    {Step::kAsyncWrite, "async", "ofn"},
    {Step::kTruncate, "truncate", "on"},
    {Step::kPunch, "punch", "ofn"},
    {Step::kPreallocate, "preallocate", "ofn"},
    {Step::kSync, "sync-all", ""},
    {Step::kSyncObject, "sync-object", "o"},
    {Step::kSyncRange, "sync-range", "ofn"},
    {Step::kBarrier, "barrier", ""},
    {Step::kCheckpoint, "checkpoint", ""},
    {Step::kCreate, "create", "o"},
    {Step::kRemove, "remove", "o"},
    {Step::kRename, "rename", "ot"},
    {Step::kTransaction, "tx", ""},
    {Step::kHoldRead, "hold-read", "ofn"},
    {Step::kHoldCheckpoint, "hold-checkpoint", ""},
    {Step::kHoldWrite, "hold-write", ""},
    {Step::kRelease, "release", ""},
    {Step::kHoldData, "hold-data", ""},
    {Step::kRead, "read", "ofn"},
    {Step::kReader, "reader", ""},
    {Step::kReaderAgain, "reader-again", ""},
    {Step::kResize, "resize", "n"},
    {Step::kTrim, "trim", ""},
    {Step::kFull, "full", ""},
    {Step::kRoom, "room", ""},
};

std::string OneToString(const Step& step) {
  for (const Form& form : kForms) {
    if (form.kind != step.kind) continue;
    std::string text = form.word;
    for (const char* a = form.arguments; *a != 0; ++a) {
      if (*a == 'o') absl::StrAppend(&text, " ", step.object);
      if (*a == 't') absl::StrAppend(&text, " ", step.to);
      if (*a == 'f') absl::StrAppend(&text, " ", step.offset);
      if (*a == 'n') absl::StrAppend(&text, " ", step.length);
    }
    if (step.kind == Step::kTransaction) absl::StrAppend(&text, " { ", ToString(step.changes), " }");
    if (step.stamp != 0) absl::StrAppend(&text, " as ", step.stamp);
    if (step.sync) text += " sync";
    return text;
  }
  return "?";
}

class Parser {
 public:
  explicit Parser(std::string_view text) {
    const std::string spaced = absl::StrReplaceAll(absl::string_view(text.data(), text.size()),
                                                   {{";", " ; "}, {"{", " { "}, {"}", " } "}});
    for (absl::string_view word : absl::StrSplit(spaced, ' ', absl::SkipEmpty())) words_.emplace_back(word);
  }

  absl::StatusOr<std::vector<Step>> Run(bool nested) {
    std::vector<Step> steps;
    while (!words_.empty() && words_.front() != "}") {
      if (Take() == ";") continue;
      const Form* form = nullptr;
      for (const Form& f : kForms) {
        if (word_ == f.word) form = &f;
      }
      if (form == nullptr) return absl::InvalidArgumentError(absl::StrCat("no step '", word_, "'"));
      Step step;
      step.kind = form->kind;
      for (const char* a = form->arguments; *a != 0; ++a) {
        Take();
        uint64_t* number = *a == 'f' ? &step.offset : *a == 'n' ? &step.length : nullptr;
        if (number != nullptr && !absl::SimpleAtoi(word_, number))
          return absl::InvalidArgumentError(absl::StrCat(form->word, ": '", word_, "' is no number"));
        if (*a == 'o') step.object = word_;
        if (*a == 't') step.to = word_;
      }
      if (step.kind == Step::kTransaction) {
        if (Take() != "{") return absl::InvalidArgumentError("tx: '{' is missing");
        absl::StatusOr<std::vector<Step>> changes = Run(true);
        if (!changes.ok()) return changes.status();
        step.changes = *std::move(changes);
      }
      if (!words_.empty() && words_.front() == "as") {
        Take();
        if (!absl::SimpleAtoi(Take(), &step.stamp))
          return absl::InvalidArgumentError(absl::StrCat("as: '", word_, "' is no number"));
      }
      if (!words_.empty() && words_.front() == "sync") {
        Take();
        step.sync = true;
      }
      steps.push_back(std::move(step));
    }
    if (nested != !words_.empty()) return absl::InvalidArgumentError("'{' and '}' do not match");
    if (nested) Take();
    return steps;
  }

 private:
  const std::string& Take() {
    word_.clear();
    if (words_.empty()) return word_;
    word_ = words_.front();
    words_.pop_front();
    return word_;
  }

  std::deque<std::string> words_;
  std::string word_;
};

}  // namespace

std::string ToString(std::span<const Step> steps) {
  std::string text;
  for (const Step& step : steps) absl::StrAppend(&text, text.empty() ? "" : "; ", OneToString(step));
  return text;
}

absl::StatusOr<std::vector<Step>> ParseSteps(std::string_view text) { return Parser(text).Run(false); }

std::vector<Step> Steps(std::string_view text) {
  absl::StatusOr<std::vector<Step>> steps = ParseSteps(text);
  if (!steps.ok()) {
    std::fprintf(stderr, "%s\n", steps.status().ToString().c_str());
    std::abort();
  }
  return *std::move(steps);
}

}  // namespace untorn
