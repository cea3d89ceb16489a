#include "integrations/sqlite/journal.h"

#include <algorithm>
#include <cstring>

#include "integrations/process_wide.h"

namespace untorn::sqlite {
namespace {

constexpr uint64_t kBytesInMemory = 8 << 20;

}  // namespace

absl::StatusOr<size_t> Journal::Read(uint64_t offset, void* out, size_t bytes, bool owner) {
  if (absl::Status s = fork_guard_.CheckProcess(); !s.ok()) return s;
  std::lock_guard guard(mu_);
  read_last_ |= owner;
  if (offset >= size_) return 0;
  const size_t n = std::min<uint64_t>(bytes, size_ - offset);
  if (!file_) {
    std::memcpy(out, bytes_.data() + offset, n);
    return n;
  }
  if (absl::Status s = file_->Read(offset, out, n); !s.ok()) return s;
  return n;
}

absl::Status Journal::Write(uint64_t offset, const void* data, size_t bytes) {
  if (absl::Status s = fork_guard_.CheckProcess(); !s.ok()) return s;
  std::lock_guard guard(mu_);
  read_last_ = false;
  if (offset == 0) {
    synced_ = false;
    const auto* begin = static_cast<const char*>(data);
    in_use_ = std::any_of(begin, begin + bytes, [](char c) { return c != 0; });
  }
  const uint64_t end = offset + bytes;
  if (!file_ && end > kBytesInMemory) {
    if (absl::Status s = Spill(); !s.ok()) return s;
  }
  if (file_) {
    if (absl::Status s = file_->Write(offset, data, bytes); !s.ok()) return s;
  } else {
    if (end > bytes_.size()) bytes_.resize(end);
    std::memcpy(bytes_.data() + offset, data, bytes);
  }
  size_ = std::max(size_, end);
  return absl::OkStatus();
}

absl::Status Journal::Spill() {
  absl::StatusOr<std::unique_ptr<PlainFile>> file = PlainFile::CreateTemporary();
  if (!file.ok()) return file.status();
  if (absl::Status s = (*file)->Write(0, bytes_.data(), size_); !s.ok()) return s;
  file_ = *std::move(file);
  bytes_ = {};
  return absl::OkStatus();
}

absl::Status Journal::Truncate(uint64_t bytes) {
  if (absl::Status s = fork_guard_.CheckProcess(); !s.ok()) return s;
  std::lock_guard guard(mu_);
  read_last_ = false;
  in_use_ &= bytes != 0;
  if (bytes >= size_) return absl::OkStatus();
  if (!file_) {
    bytes_.resize(bytes);
  } else if (absl::Status s = file_->Truncate(bytes); !s.ok()) {
    return s;
  }
  size_ = bytes;
  return absl::OkStatus();
}

void Journal::Sync() {
  std::lock_guard guard(mu_);
  read_last_ = false;
  synced_ = true;
}

uint64_t Journal::size() const {
  std::lock_guard guard(mu_);
  return size_;
}

bool Journal::being_played_back() const {
  std::lock_guard guard(mu_);
  return read_last_;
}

bool Journal::synced() const {
  std::lock_guard guard(mu_);
  return synced_;
}

bool Journal::in_use() const {
  std::lock_guard guard(mu_);
  return in_use_;
}

bool Journal::has_file() const {
  std::lock_guard guard(mu_);
  return has_file_;
}

void Journal::SetHasFile() {
  std::lock_guard guard(mu_);
  has_file_ = true;
}

Journals& Journals::Get() { return ProcessWide<Journals, &Journals::mu_>(); }

std::shared_ptr<Journal> Journals::Find(std::string_view name) const {
  std::lock_guard guard(mu_);
  auto it = journals_.find(name);
  return it == journals_.end() ? nullptr : it->second;
}

std::shared_ptr<Journal> Journals::FindOrCreate(std::string_view name) {
  std::lock_guard guard(mu_);
  std::shared_ptr<Journal>& journal = journals_[std::string(name)];
  if (!journal) journal = std::make_shared<Journal>();
  return journal;
}

void Journals::Remove(std::string_view name) {
  std::lock_guard guard(mu_);
  if (auto it = journals_.find(name); it != journals_.end()) journals_.erase(it);
}

}  // namespace untorn::sqlite
