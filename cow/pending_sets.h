// The list of the pending change sets is in the order in which the sets have to become durable.
//
// Invariant: the list is sorted by barrier epoch, then by sequence. Almost every new set is newer than all
// sets on the list, so Add() searches the list from its end.
//
// Threading: the store's mutex guards the list.
#ifndef UNTORN_COW_PENDING_SETS_H_
#define UNTORN_COW_PENDING_SETS_H_

#include <cstddef>
#include <utility>

#include "base/check.h"
#include "cow/change_set.h"

namespace untorn {

// The links of this list are in the change sets themselves, so adding a set allocates nothing.
class PendingSets {
 public:
  class Iterator {
   public:
    explicit Iterator(const ChangeSetRef* at) : at_(at) {}
    const ChangeSetRef& operator*() const { return *at_; }
    const ChangeSetRef* operator->() const { return at_; }
    Iterator& operator++() {
      at_ = &(*at_)->next_pending;
      return *this;
    }
    bool operator==(const Iterator& other) const { return at_->get() == other.at_->get(); }

   private:
    const ChangeSetRef* at_;
  };

  PendingSets() = default;
  PendingSets(const PendingSets&) = delete;
  ~PendingSets() {
    // Each link owns the next one. Taking the sets off one by one keeps a long list from going by recursion.
    while (first_) Erase(*first_);
  }

  void Add(const ChangeSetRef& set) {
    UNTORN_CHECK(!set->next_pending && set->previous_pending == nullptr, "a change set is pending twice");
    ChangeSet* before = last_;
    while (before != nullptr && set->order() < before->order()) before = before->previous_pending;
    ChangeSetRef& link = before != nullptr ? before->next_pending : first_;
    set->previous_pending = before;
    set->next_pending = std::exchange(link, set);
    if (set->next_pending) {
      set->next_pending->previous_pending = set.get();
    } else {
      last_ = set.get();
    }
    ++size_;
  }
  void Erase(ChangeSet& set) {
    ChangeSetRef& link = set.previous_pending != nullptr ? set.previous_pending->next_pending : first_;
    UNTORN_CHECK(link.get() == &set, "a change set is taken off the list that is not on it");
    const ChangeSetRef keep = std::exchange(link, std::move(set.next_pending));
    if (link) {
      link->previous_pending = set.previous_pending;
    } else {
      last_ = set.previous_pending;
    }
    set.previous_pending = nullptr;
    --size_;
  }

  bool empty() const { return !first_; }
  size_t size() const { return size_; }
  const ChangeSetRef& front() const { return first_; }
  Iterator begin() const { return Iterator(&first_); }
  Iterator end() const { return Iterator(&end_); }

 private:
  ChangeSetRef first_;
  ChangeSet* last_ = nullptr;
  size_t size_ = 0;
  const ChangeSetRef end_;  // always null
};

}  // namespace untorn

#endif  // UNTORN_COW_PENDING_SETS_H_
