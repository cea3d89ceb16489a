// The table of three policies: batches of buffered atomic writes, brought to the device (a) each by one atomic write,
// (b) always by copy-on-write, (c) as untorn decides; on the file system, with a stated unit, and on simulated devices,
// in virtual time.
#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/page_store.h"
#include "bench/pages.h"
#include "bench/raw_file.h"
#include "bench/works.h"
#include "device/file_device.h"
#include "sim/simulated_device.h"
#include "store/on_device.h"
#include "untorn/store.h"

namespace untorn::bench {
namespace {

constexpr uint64_t kUnitBytes = 64 << 10;
constexpr uint64_t kSetBytes = 64 << 20;
constexpr uint64_t kStoreBytes = 320 << 20;
const char kEach[] = "one device write each", kCow[] = "always copy-on-write", kAutomatic[] = "automatic";

struct Shape {
  int pages = 1;     // of a batch
  int adjacent = 1;  // of these, that lie side by side
  std::string Name(uint64_t page_bytes) const {
    const char* where = pages == 1 || adjacent == 1 ? "" : adjacent == pages ? " in one run" : " in runs of ";
    const std::string length = adjacent > 1 && adjacent < pages ? absl::StrCat(adjacent) : "";
    return absl::StrCat(pages, " x ", page_bytes >> 10, " KiB", where, length);
  }
};
constexpr Shape kShapes[] = {{1, 1}, {2, 1},  {4, 1},  {16, 1},  {64, 1},
                             {4, 4}, {16, 4}, {64, 4}, {16, 16}, {64, 64}};

// The least that a store of this kind would do: pages are cached, and written from there. Only each by itself is whole, here
// and below.
class OneWriteEach : public PageStore {
 public:
  OneWriteEach(std::unique_ptr<Device> device, uint64_t page_bytes)
      : device_(std::move(device)), page_bytes_(page_bytes) {}

  absl::Status Commit(int, std::span<const PageWrite> batch) override {
    std::vector<IoRequest> requests(batch.size());
    std::vector<IoRequest*> pointers;
    for (size_t i = 0; i < batch.size(); ++i) {
      const uint64_t at = batch[i].page * page_bytes_;
      std::byte* cached = cache_.data() + at;
      std::copy_n(batch[i].data, page_bytes_, cached);
      requests[i].op = IoOp::kAtomicWrite;
      requests[i].offset_bytes = at;
      requests[i].iov = {{cached, page_bytes_}};
      pointers.push_back(&requests[i]);
    }
    device_->Submit(pointers);
    for (std::vector<IoRequest*> done; done.size() < batch.size();) device_->Reap(/*wait=*/true, &done);
    for (const IoRequest& request : requests) {
      if (!request.status.ok()) return request.status;
    }
    return FlushBlocking(*device_);
  }
  absl::Status Read(int, uint32_t, uint64_t page, std::byte* out) override {
    return ReadBlocking(*device_, page * page_bytes_, out, page_bytes_);
  }

 private:
  std::unique_ptr<Device> device_;
  const uint64_t page_bytes_;
  AlignedBuffer cache_{kSetBytes};
};

class OnUntorn : public PageStore {
 public:
  explicit OnUntorn(uint64_t page_bytes) : page_bytes_(page_bytes) {}
  static absl::StatusOr<std::unique_ptr<PageStore>> Make(std::unique_ptr<Device> device, uint64_t page_bytes,
                                                         WritePolicy policy, bool background) {
    if (absl::Status s = internal::CreateOnDevice(*device, {.prepare = true}); !s.ok()) return s;
    auto made = std::make_unique<OnUntorn>(page_bytes);
    auto store = internal::OpenOnDevice(std::move(device), {.policy = policy, .cache_bytes = 4 * kSetBytes},
                                        background);
    if (!store.ok()) return store.status();
    made->store_ = *std::move(store);
    auto object = made->store_->CreateObject("pages");
    if (!object.ok()) return object.status();
    made->object_ = *object;
    return made;
  }

  absl::Status Commit(int, std::span<const PageWrite> batch) override {
    for (const PageWrite& p : batch) {
      absl::Status s = object_.Write(p.page * page_bytes_, std::span(p.data, page_bytes_));
      if (!s.ok()) return s;
    }
    return store_->Sync();
  }
  absl::Status Read(int, uint32_t, uint64_t page, std::byte* out) override {
    return object_.Read(page * page_bytes_, std::span(out, page_bytes_), {.bypass_cache = true}).status();
  }

 private:
  const uint64_t page_bytes_;
  std::unique_ptr<Store> store_;
  Object object_;
};

// Where the three are measured: devices of one kind, and their time.
struct Ground {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Device>>(const char* for_whom)> make_device;
  std::function<uint64_t(const Device&)> now_ns;
  bool background = true;
  // Whether all contenders begin each kind of batch on a new disk, so that none of them meets there what the batches
  // before have left in place and others have not.
  bool new_disks = false;
  int rounds = 1;
  uint64_t round_ns = 0, round_bytes = 0;  // a round lasts this long, and at least so many bytes
  // Of the automatic policy: against the better of the others, and, for scattered pages, against (a).
  double bar = 0;
  std::optional<double> scattered_bar;
};

class Contender {
 public:
  static absl::StatusOr<std::unique_ptr<Contender>> Make(const Ground& ground, const char* name,
                                                         uint64_t page_bytes) {
    auto device = ground.make_device(name);
    if (!device.ok()) return device.status();
    auto c = std::make_unique<Contender>();
    c->ground_ = &ground;
    c->name_ = name;
    c->page_bytes_ = page_bytes;
    c->device_ = device->get();
    c->versions_.assign(kSetBytes / page_bytes, 0);
    absl::StatusOr<std::unique_ptr<PageStore>> store;
    if (name == kEach) {
      store = std::make_unique<OneWriteEach>(*std::move(device), page_bytes);
    } else {
      store =
          OnUntorn::Make(*std::move(device), page_bytes,
                         name == kCow ? WritePolicy::kAlwaysCow : WritePolicy::kAutomatic, ground.background);
    }
    if (!store.ok()) return store.status();
    c->store_ = *std::move(store);
    for (uint64_t n = 0; n < c->versions_.size(); n += kBatchMax) {
      c->drawn_.clear();
      for (uint64_t i = 0; i < kBatchMax; ++i) c->drawn_.push_back(n + i);
      if (absl::Status s = c->WriteDrawn(); !s.ok()) return s;
    }
    return c;
  }

  // Batches a second.
  absl::StatusOr<double> Run(const Shape& shape) {
    const uint64_t start_ns = ground_->now_ns(*device_);
    uint64_t batches = 0, ns = 0;
    while (ns < ground_->round_ns || batches * shape.pages * page_bytes_ < ground_->round_bytes) {
      Draw(shape);
      if (absl::Status s = WriteDrawn(); !s.ok()) return s;
      ++batches;
      ns = ground_->now_ns(*device_) - start_ns;
    }
    return batches * 1e9 / ns;
  }

  absl::Status Check() {
    AlignedBuffer page(page_bytes_);
    for (uint64_t n = 0; n < versions_.size(); ++n) {
      absl::Status s = store_->Read(0, 0, n, page.data());
      if (s.ok()) s = CheckStamp(page.data(), page_bytes_, n, versions_[n]);
      if (!s.ok()) return absl::Status(s.code(), absl::StrCat(name_, ": ", std::string(s.message())));
    }
    return absl::OkStatus();
  }

 private:
  static constexpr uint64_t kBatchMax = 64;

  void Draw(const Shape& shape) {
    drawn_.clear();
    while (static_cast<int>(drawn_.size()) < shape.pages) {
      const uint64_t first = rng_() % (versions_.size() - shape.adjacent + 1);
      const auto overlaps = [&](uint64_t n) {
        return n + shape.adjacent > first && n < first + shape.adjacent;
      };
      if (std::any_of(drawn_.begin(), drawn_.end(), overlaps)) continue;
      for (int i = 0; i < shape.adjacent; ++i) drawn_.push_back(first + i);
    }
  }
  absl::Status WriteDrawn() {
    batch_.clear();
    for (uint64_t n : drawn_) {
      std::byte* data = data_.data() + batch_.size() * page_bytes_;
      Stamp(data, page_bytes_, n, ++versions_[n]);
      batch_.push_back({0, n, data});
    }
    return store_->Commit(0, batch_);
  }

  const Ground* ground_ = nullptr;
  std::string name_;
  uint64_t page_bytes_ = 0;
  const Device* device_ = nullptr;  // the store's
  std::unique_ptr<PageStore> store_;
  std::vector<uint32_t> versions_;
  std::mt19937_64 rng_{1};
  AlignedBuffer data_ = RandomBytes(kBatchMax * kUnitBytes, 1);
  std::vector<uint64_t> drawn_;
  std::vector<PageWrite> batch_;
};

using Contenders = std::vector<std::unique_ptr<Contender>>;

// Warmed up, in the order of the table.
absl::StatusOr<Contenders> MakeContenders(const Ground& ground, uint64_t page_bytes) {
  Contenders contenders;
  for (const char* name : {kEach, kCow, kAutomatic}) {
    auto contender = Contender::Make(ground, name, page_bytes);
    if (!contender.ok()) return contender.status();
    contenders.push_back(*std::move(contender));
    if (auto warm_up = contenders.back()->Run({16, 1}); !warm_up.ok()) return warm_up.status();
  }
  return contenders;
}

absl::Status CheckAll(const Contenders& contenders) {
  for (const auto& contender : contenders) {
    if (absl::Status s = contender->Check(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// The worst ratio of some points, told as one.
class Worst {
 public:
  Worst(std::string work, std::string against)
      : worst_{std::move(work), kAutomatic, std::move(against), {}} {}
  void Add(const Ratio& ratio) {
    if (worst_.rounds.empty() || ratio.median() < worst_.median()) worst_.rounds = ratio.rounds;
  }
  void Tell(std::optional<double> at_least, Results* results) const {
    results->ratios.push_back(worst_);
    if (at_least) results->bars.push_back({worst_.work, worst_.subject, worst_.against, at_least, {}});
  }

 private:
  Ratio worst_;
};

absl::Status Measure(const Setting& setting, const Ground& ground, Results* results) {
  const std::string better = "the better of the other two";
  Worst against_better(absl::StrCat("writeback on ", ground.name, ", the worst of all batches"), better);
  Worst scattered(
      absl::StrCat("writeback on ", ground.name, ", the worst of 16 or 64 scattered pages of 4 or 16 KiB"),
      kEach);
  for (uint64_t page_bytes : {4 << 10, 16 << 10, 64 << 10}) {
    if (setting.quick && page_bytes == 64 << 10) continue;
    Contenders contenders;
    for (const Shape& shape : kShapes) {
      const bool in_runs = shape.adjacent > 1 && shape.adjacent < shape.pages;
      if (setting.quick && (shape.pages == 2 || shape.pages == 4 || in_runs)) continue;
      if (ground.new_disks || contenders.empty()) {
        if (absl::Status s = CheckAll(contenders); !s.ok()) return s;
        auto made = MakeContenders(ground, page_bytes);
        if (!made.ok()) return made.status();
        contenders = *std::move(made);
      }
      auto series = Alternate({{kEach, [&] { return contenders[0]->Run(shape); }},
                               {kCow, [&] { return contenders[1]->Run(shape); }},
                               {kAutomatic, [&] { return contenders[2]->Run(shape); }}},
                              ground.rounds);
      if (!series.ok()) return series.status();
      const std::string work = absl::StrCat("writeback on ", ground.name, " of ", shape.Name(page_bytes));
      AddRatio(work, *series, kAutomatic, kEach, results);
      if (shape.adjacent == 1 && shape.pages >= 16 && page_bytes <= 16 << 10)
        scattered.Add(results->ratios.back());
      AddRatio(work, *series, kAutomatic, kCow, results);
      AddRatioToBest(work, *series, kAutomatic, {kEach, kCow}, results);
      results->ratios.back().against = better;
      against_better.Add(results->ratios.back());
      for (const Series& s : *series)
        results->figures.push_back({work, s.subject, "", MedianOf(s.per_second)});
    }
    if (absl::Status s = CheckAll(contenders); !s.ok()) return s;
  }
  against_better.Tell(ground.bar, results);
  scattered.Tell(ground.scattered_bar, results);
  return absl::OkStatus();
}

Ground Simulated(const Setting& setting, const std::string& name, const SimulatedLatency& latency) {
  SimulatedDeviceOptions options{.size_bytes = kStoreBytes, .shuffle = false, .latency = latency};
  options.atomic = {AtomicSource::kStated, kBlockBytes, kUnitBytes, 0};
  Ground ground;
  ground.name = name;
  ground.make_device = [options](const char*) -> absl::StatusOr<std::unique_ptr<Device>> {
    return std::make_unique<SimulatedDevice>(std::make_shared<SimulatedDisk>(kStoreBytes), options);
  };
  ground.now_ns = [](const Device& device) {
    return static_cast<const SimulatedDevice&>(device).virtual_ns();
  };
  // Without threads every run is the same, and checkpoints are paid for by the commits between them.
  ground.background = false;
  ground.new_disks = true;
  ground.round_bytes = (setting.quick ? uint64_t{8} : 64) << 20;
  ground.bar = 0.95;
  return ground;
}

Ground FileSystem(const Setting& setting) {
  Ground ground;
  ground.name = "this disk, stated unit";
  ground.make_device = [&setting](const char* for_whom) -> absl::StatusOr<std::unique_ptr<Device>> {
    const std::string path = absl::StrCat(setting.directory, "/", for_whom);
    RawFile file;
    if (absl::Status s = file.Open(path, kStoreBytes); !s.ok()) return s;
    return OpenFileDevice(path, {.stated_unit_bytes = kUnitBytes});
  };
  ground.now_ns = [](const Device&) -> uint64_t {
    return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  ground.rounds = setting.pace.rounds;
  ground.round_ns = setting.pace.milliseconds * uint64_t{500'000};
  ground.bar = 0.85;
  ground.scattered_bar = 2;
  return ground;
}

}  // namespace

absl::Status PolicyWorks(const Setting& setting, Results* results) {
  // Fitted to what one virtual disk took; and to the data sheet of a fast NVMe disk with a protected write cache.
  Ground virtual_disk = Simulated(
      setting, "a simulated virtual disk",
      {.request_ns = 14'000, .block_ns = 800, .read_ns = 42'000, .write_ns = 42'000, .flush_ns = 30'000});
  const Ground nvme = Simulated(
      setting, "a simulated NVMe disk",
      {.request_ns = 2'500, .block_ns = 1'200, .read_ns = 60'000, .write_ns = 12'000, .flush_ns = 3'000});
  if (absl::Status s = Measure(setting, virtual_disk, results); !s.ok()) return s;
  if (absl::Status s = Measure(setting, nvme, results); !s.ok()) return s;
  return Measure(setting, FileSystem(setting), results);
}

}  // namespace untorn::bench
