// What another process reads while a store is open for writing: promise 2, for leased states.
#ifndef UNTORN_TESTS_EXPLORE_OTHER_READER_H_
#define UNTORN_TESTS_EXPLORE_OTHER_READER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "extent/superblock.h"
#include "sim/simulated_device.h"
#include "tests/untorn/model.h"
#include "untorn/store.h"

namespace untorn {

class OtherReader {
 public:
  // `owner` has the store on this disk open, without threads, and must outlive the reader.
  OtherReader(Store& owner, std::shared_ptr<SimulatedDisk> disk);

  // Gives up the lease, asks for another one, lets the owner answer, and reads everything. nullopt: the owner could not
  // answer, or has revoked the lease meanwhile.
  absl::StatusOr<std::optional<Observed>> Refresh();
  // Reads everything again from the device. "" or what is wrong: with a lease it must be what Refresh() has read.
  std::string ReadAgain();

 private:
  absl::StatusOr<std::optional<Observed>> ReadAll();

  Store& owner_;
  const std::shared_ptr<SimulatedDisk> disk_;
  std::unique_ptr<SimulatedDevice> holder_;  // has the lease
  std::optional<Superblock> leased_;
  uint64_t seen_hash_ = 0;
};

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_OTHER_READER_H_
