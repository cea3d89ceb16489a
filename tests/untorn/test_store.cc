#include "tests/untorn/test_store.h"

#include <utility>

#include "store/on_device.h"

namespace untorn {

std::vector<std::byte> ReadAll(const Object& object, uint64_t offset, size_t length) {
  std::vector<std::byte> bytes(length);
  auto read = object.Read(offset, bytes);
  EXPECT_TRUE(IsOk(read));
  EXPECT_EQ(read.value_or(0), length);
  return bytes;
}

std::map<std::string, std::vector<std::byte>> Contents(Store& store) {
  std::map<std::string, std::vector<std::byte>> contents;
  auto list = store.List();
  EXPECT_TRUE(IsOk(list));
  if (!list.ok()) return contents;
  for (const ObjectInfo& info : *list) {
    auto object = store.OpenObject(info.name);
    EXPECT_TRUE(IsOk(object));
    if (object.ok()) contents[info.name] = ReadAll(*object, 0, info.size_bytes);
  }
  return contents;
}

TestStore::TestStore(const TestStoreOptions& options)
    : options_(options),
      rng_(options.seed),
      disk_(options.limit_bytes > 0 ? std::make_shared<SimulatedDisk>(options.size_bytes, /*length_bytes=*/0)
                                    : std::make_shared<SimulatedDisk>(options.size_bytes)) {
  auto device = NewDevice(disk_);
  EXPECT_TRUE(IsOk(internal::CreateOnDevice(
      *device, {.size_bytes = options.limit_bytes > 0 ? options.limit_bytes : options.size_bytes})));
  device.reset();
  EXPECT_TRUE(IsOk(Open()));
}

TestStore::~TestStore() {
  if (store_ != nullptr) Kill();
}

std::unique_ptr<CutDevice> TestStore::NewDevice(const std::shared_ptr<SimulatedDisk>& disk) {
  SimulatedDeviceOptions device;
  device.size_bytes = options_.size_bytes;
  device.seed = rng_();
  device.shuffle = options_.shuffle;
  device.atomic = options_.atomic;
  device.refuse_atomic_per_mille = options_.refuse_atomic_per_mille;
  device.needs_preparing = options_.needs_preparing;
  return std::make_unique<CutDevice>(std::make_unique<SimulatedDevice>(disk, device));
}

absl::Status TestStore::Open(const OpenOptions& open, uint64_t cut_after) {
  auto device = NewDevice(disk_);
  device->CutAfter(cut_after);
  CutDevice* raw = device.get();
  auto store = internal::OpenOnDevice(std::move(device), open, options_.background);
  if (!store.ok()) return store.status();
  device_ = raw;
  device_->ClearWhenGone(&device_);
  store_ = *std::move(store);
  return absl::OkStatus();
}

absl::Status TestStore::Close() {
  absl::Status status = store_->Close();
  store_.reset();
  EXPECT_EQ(Fsck(), "");
  return status;
}

void TestStore::Kill() {
  if (device_ != nullptr) device_->CutNow();
  store_.reset();
  disk_->Kill(rng_);
}

void TestStore::Crash(int keep_per_mille) {
  if (device_ != nullptr) device_->CutNow();
  store_.reset();
  disk_->Crash(rng_, keep_per_mille);
}

void TestStore::KillAndOpen() {
  Kill();
  EXPECT_TRUE(IsOk(Open()));
}

void TestStore::CrashAndOpen(int keep_per_mille) {
  Crash(keep_per_mille);
  EXPECT_EQ(Fsck(), "");
  EXPECT_TRUE(IsOk(Open()));
}

void TestStore::CloseAndOpen() {
  EXPECT_TRUE(IsOk(Close()));
  EXPECT_TRUE(IsOk(Open()));
}

}  // namespace untorn
