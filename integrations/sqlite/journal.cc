#include "integrations/sqlite/journal.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace untorn::sqlite {
namespace {

constexpr uint64_t kBytesInMemory = 8 << 20;

absl::Status WriteAll(std::FILE* file, uint64_t offset, const void* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t put =
        pwrite(fileno(file), static_cast<const char*>(data) + done, bytes - done, offset + done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return absl::ErrnoToStatus(put < 0 ? errno : EIO, "a journal's temporary file: write");
    done += put;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<size_t> Journal::Read(uint64_t offset, void* out, size_t bytes, bool owner) {
  std::lock_guard guard(mu_);
  read_last_ |= owner;
  if (offset >= size_) return 0;
  const size_t n = std::min<uint64_t>(bytes, size_ - offset);
  if (!file_) {
    std::memcpy(out, bytes_.data() + offset, n);
    return n;
  }
  for (size_t done = 0; done < n;) {
    const ssize_t got = pread(fileno(file_.get()), static_cast<char*>(out) + done, n - done, offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return absl::ErrnoToStatus(got < 0 ? errno : EIO, "a journal's temporary file: read");
    done += got;
  }
  return n;
}

absl::Status Journal::Write(uint64_t offset, const void* data, size_t bytes) {
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
    if (absl::Status s = WriteAll(file_.get(), offset, data, bytes); !s.ok()) return s;
  } else {
    if (end > bytes_.size()) bytes_.resize(end);
    std::memcpy(bytes_.data() + offset, data, bytes);
  }
  size_ = std::max(size_, end);
  return absl::OkStatus();
}

absl::Status Journal::Spill() {
  file_.reset(std::tmpfile());
  if (!file_) return absl::ErrnoToStatus(errno, "a temporary file for a large journal");
  if (absl::Status s = WriteAll(file_.get(), 0, bytes_.data(), size_); !s.ok()) {
    file_.reset();
    return s;
  }
  bytes_ = {};
  return absl::OkStatus();
}

absl::Status Journal::Truncate(uint64_t bytes) {
  std::lock_guard guard(mu_);
  read_last_ = false;
  in_use_ &= bytes != 0;
  if (bytes >= size_) return absl::OkStatus();
  if (!file_) {
    bytes_.resize(bytes);
  } else if (ftruncate(fileno(file_.get()), bytes) != 0) {
    return absl::ErrnoToStatus(errno, "a journal's temporary file: truncate");
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

Journals& Journals::Get() {
  static Journals& journals = *new Journals;  // files may be closed while the process ends
  return journals;
}

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
