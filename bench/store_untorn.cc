#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/stores.h"
#include "untorn/store.h"

namespace untorn::bench {
namespace {

class UntornStore : public PageStore {
 public:
  static absl::StatusOr<std::unique_ptr<PageStore>> Open(const PageStoreOptions& options, bool exists,
                                                         WritePolicy policy, uint64_t stated_unit_bytes,
                                                         int percent_full) {
    const std::string path = options.directory + "/untorn";
    const uint64_t set_bytes = options.page_bytes * options.pages * options.objects;
    if (!exists) {
      const uint64_t size_bytes =
          percent_full > 0 ? set_bytes * 100 / percent_full : 4 * set_bytes + (64 << 20);
      absl::Status s = Store::Create(path, {.size_bytes = size_bytes, .prepare = true});
      if (!s.ok()) return s;
    }
    auto store = std::make_unique<UntornStore>();
    store->page_bytes_ = options.page_bytes;
    auto opened = Store::Open(path, {.policy = policy,
                                     .stated_atomic_unit_bytes = stated_unit_bytes,
                                     .cache_bytes = options.cache_bytes});
    if (!opened.ok()) return opened.status();
    store->store_ = *std::move(opened);
    for (uint32_t i = 0; i < options.objects; ++i) {
      const std::string name = absl::StrCat("object ", i);
      auto object = exists ? store->store_->OpenObject(name) : store->store_->CreateObject(name);
      if (!object.ok()) return object.status();
      store->objects_.push_back(*object);
    }
    return store;
  }

  absl::Status Commit(int, std::span<const PageWrite> pages) override {
    const auto data = [&](const PageWrite& p) { return std::span(p.data, page_bytes_); };
    if (pages.size() == 1) {
      const PageWrite& p = pages[0];
      return objects_[p.object].Write(p.page * page_bytes_, data(p), {.durability = Durability::kSync});
    }
    Transaction transaction = store_->Begin();
    for (const PageWrite& p : pages) {
      absl::Status s = transaction.Write(objects_[p.object], p.page * page_bytes_, data(p));
      if (!s.ok()) return s;
    }
    return transaction.Commit(Durability::kSync);
  }

  absl::Status Read(int, uint32_t object, uint64_t page, std::byte* out) override {
    auto n = objects_[object].Read(page * page_bytes_, std::span(out, page_bytes_));
    if (!n.ok()) return n.status();
    return *n == page_bytes_ ? absl::OkStatus() : absl::NotFoundError("never written");
  }

  CommitCounts counts() const override {
    const Stats stats = store_->stats();
    return {stats.commits, stats.commits_in_lanes, stats.settling_records};
  }

 private:
  uint64_t page_bytes_ = 0;
  std::unique_ptr<Store> store_;
  std::vector<Object> objects_;
};

}  // namespace

Subject UntornSubject(const std::string& name, WritePolicy policy, uint64_t stated_unit_bytes,
                      int percent_full) {
  std::string settings = policy == WritePolicy::kAlwaysCow ? "always copy-on-write" : "automatic policy";
  if (stated_unit_bytes > 0) absl::StrAppend(&settings, ", stated unit of ", stated_unit_bytes >> 10, " KiB");
  return {name, settings + "; Durability::kSync; the file prepared when it was created",
          [=](const PageStoreOptions& options, bool exists) {
            return UntornStore::Open(options, exists, policy, stated_unit_bytes, percent_full);
          }};
}

}  // namespace untorn::bench
