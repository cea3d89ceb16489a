// Leases let other processes read a store while its owner changes it (docs/decisions/035).
//
// A lease is of one checkpoint. While it lasts, no block of that checkpoint is used again or overwritten in place. So a
// reader that has the checkpoint's superblock sees one state of the store, and needs nothing else of the owner. The owner
// may revoke a lease at any time, and never waits for a reader. A reader looks at its lease after each read of the device,
// and drops what it read if the lease has ended.
//
// The two sides tell one another all this by locks on bytes that lie behind all content. The kernel ends the locks of a
// process that is killed, and those of an owner before the next owner can begin.
//
//     byte                  locked by  while
//     kAskByte              readers    they want a lease
//     number n of kBegun    the owner  it has begun n rounds
//     number n of kDone     the owner  it has done n rounds
//     number g of kGranted  the owner  the checkpoint of generation g is leased
//     number g of kHeld     readers    they use that lease
//     kWatchByte            watchers   they want to see statistics (store/watcher.h)
//     kUnpublishedByte      the owner  somebody watches, and it cannot write the statistics
//
// No two of these bytes are neighbours. The kernel would make one lock of locked neighbours, and could fail to part them.
//
// In a round the owner answers all who ask: it stops overwrites in place, makes a checkpoint, protects the blocks of the
// checkpoint, and grants a lease of it. A reader asks, sees that n rounds have begun, and waits until n + 1 are done. That
// round began after the reader asked, so the checkpoint has all that was durable then.
//
// Threading: the classes are not thread-safe, but for LeasedDevice, which is as any Device.
#ifndef UNTORN_EXTENT_LEASE_H_
#define UNTORN_EXTENT_LEASE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "device/device.h"
#include "extent/superblock.h"

namespace untorn {

// Behind the largest store, which ends at 2^60 bytes.
inline constexpr uint64_t kAskByte = uint64_t{1} << 61;
inline constexpr uint64_t kWatchByte = kAskByte + 2, kUnpublishedByte = kAskByte + 4;
enum class LeaseArea : uint64_t { kBegun = 1, kDone, kGranted, kHeld };
inline constexpr uint64_t kLeaseAreaBytes = uint64_t{1} << 58;
inline constexpr uint64_t kLeaseNumbersMax = kLeaseAreaBytes / 2;
inline constexpr uint64_t LeaseByte(LeaseArea area, uint64_t number) {
  return kAskByte + static_cast<uint64_t>(area) * kLeaseAreaBytes + 2 * number;
}
// One of these is locked while an owner grants leases.
inline constexpr ByteRange kOwnerBytes{LeaseByte(LeaseArea::kBegun, 0), kLeaseAreaBytes};

// The owner's side.
class LeaseGrantor {
 public:
  // `device` is the owner's, and must outlive the grantor.
  explicit LeaseGrantor(Device& device) : device_(device) {}

  // Tells that this owner grants leases.
  absl::Status Announce();
  // Says whether a reader wants a lease.
  bool Asked() const;
  // Must be called before the checkpoint is begun that is to be leased, and before overwrites in place have stopped for it.
  absl::Status BeginRound();
  // Must be called when the blocks of the checkpoint are protected.
  absl::Status Grant(Generation checkpoint);
  // Must be called after each BeginRound(), whatever came of the round.
  absl::Status EndRound();
  // Must be called before a block of the checkpoint is used again. After an error the lease lasts.
  absl::Status Revoke(Generation checkpoint);
  // Says whether a reader uses the lease.
  bool InUse(Generation checkpoint) const;

 private:
  absl::Status MoveTo(LeaseArea area, uint64_t to, uint64_t* number);

  Device& device_;
  uint64_t rounds_begun_ = 0, rounds_done_ = 0;
};

// The reader's side.
class LeaseSeeker {
 public:
  // `device` is open beside the owner, and must outlive the seeker.
  explicit LeaseSeeker(Device& device) : device_(device) {}

  // Asks for a lease.
  //  kAborted  the owner has ended
  absl::Status Ask();
  // Returns the superblock of a checkpoint that has all that was durable when Ask() was called, and that is leased to this
  // device now. Returns nullopt if the owner has not answered yet.
  //  kAborted  as for Ask()
  absl::StatusOr<std::optional<Superblock>> Poll();
  // Returns why the last Poll() could not use what it read. The owner may have been writing it, or it is damaged.
  const absl::Status& unusable() const { return unusable_; }

 private:
  absl::StatusOr<uint64_t> Rounds(LeaseArea area) const;

  Device& device_;
  uint64_t begun_ = 0;  // rounds, when the lease was asked for
  absl::Status unusable_;
};

// Lets the owner end the lease that the device has. Reads may fail from now on. Thread-safe.
void GiveUpLease(Device& device, Generation checkpoint);

// A device that reads under a lease. Every read that ends when the lease has ended fails with kAborted.
class LeasedDevice : public Device {
 public:
  LeasedDevice(std::unique_ptr<Device> device, Generation checkpoint);

  uint64_t size_bytes() const override { return device_->size_bytes(); }
  absl::Status CheckHolds(uint64_t bytes) const override { return device_->CheckHolds(bytes); }
  absl::Status UnlockByte(uint64_t byte) override { return device_->UnlockByte(byte); }
  void Submit(absl::Span<IoRequest* const> requests) override { device_->Submit(requests); }
  void Reap(bool wait, std::vector<IoRequest*>* completed) override;
  void Execute(IoRequest* request) override;

 private:
  void Judge(absl::Span<IoRequest* const> completed) const;

  const std::unique_ptr<Device> device_;
  const Generation checkpoint_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_LEASE_H_
