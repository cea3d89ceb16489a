// A store takes a million objects. It opens without reading them, lists them in order, and gives back every block that they
// had (promises 3 and 7).
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr int kRounds = 200'000;
constexpr uint64_t kBlock = 4096;

class ManyObjectsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = uint64_t{8} << 30, .force = true})));
    Reopen();
  }
  void TearDown() override {
    store_.reset();
    std::remove(path_.c_str());
  }

  void Reopen() {
    if (store_) {
      ASSERT_TRUE(IsOk(store_->Close()));
    }
    absl::StatusOr<std::unique_ptr<Store>> opened = Store::Open(path_, {});
    ASSERT_TRUE(IsOk(opened));
    store_ = *std::move(opened);
  }
  // What fsck counts in the store, in which it must find nothing wrong.
  FsckResult Checked() {
    EXPECT_TRUE(IsOk(store_->Close()));
    store_.reset();
    absl::StatusOr<FsckResult> result = Fsck(path_, {});
    EXPECT_TRUE(IsOk(result));
    for (const Finding& finding : result->findings) ADD_FAILURE() << finding.what;
    return *std::move(result);
  }
  // Compares the store's list of objects with `sizes`, by their names.
  void ExpectList(const std::map<std::string, uint64_t>& sizes) {
    auto expected = sizes.begin();
    std::string after;
    while (true) {
      absl::StatusOr<std::vector<ObjectInfo>> page = store_->List(after);
      ASSERT_TRUE(IsOk(page));
      if (page->empty()) break;
      for (const ObjectInfo& object : *page) {
        ASSERT_NE(expected, sizes.end()) << object.name << " is not expected";
        ASSERT_EQ(object.name, expected->first);
        ASSERT_EQ(object.size_bytes, expected->second) << object.name;
        ++expected;
      }
      after = page->back().name;
    }
    ASSERT_EQ(expected, sizes.end());
  }

  const std::string path_ = testing::TempDir() + "/many_objects.untorn";
  std::unique_ptr<Store> store_;
};

TEST_F(ManyObjectsTest, AMillionObjectsAreOpenedListedAndChurnedWithoutALostBlock) {
  const uint64_t objects = FromEnvironment("UNTORN_OBJECTS", 1'000'000);
  std::mt19937_64 rng(TestSeed(1));
  const FsckResult none = Checked();
  Reopen();
  const auto name = [](uint64_t n) { return absl::StrFormat("object %d", n * 7919 % 100'000'007); };

  std::map<std::string, uint64_t> sizes;
  std::vector<std::string> names;
  uint64_t next = 0;
  for (; next < objects; ++next) {
    ASSERT_TRUE(IsOk(store_->CreateObject(name(next))));
    sizes[name(next)] = 0;
    names.push_back(name(next));
  }
  Reopen();
  EXPECT_LT(store_->stats().device_reads, 100) << "to open a store must not read its objects";
  ExpectList(sizes);

  for (int round = 0; round < kRounds; ++round) {
    std::string& chosen = names[rng() % names.size()];
    const std::string fresh = name(next++);
    const uint64_t bytes = rng() % (3 * kBlock) + 1;
    if (round % 4 == 0) {
      ASSERT_TRUE(IsOk(store_->Rename(chosen, fresh)));
      sizes[fresh] = sizes[chosen];
    } else {
      ASSERT_TRUE(IsOk(store_->Remove(chosen)));
      absl::StatusOr<Object> object = store_->CreateObject(fresh);
      ASSERT_TRUE(IsOk(object));
      ASSERT_TRUE(IsOk(object->Write(0, Stamped(round, bytes))));
      if (round % 4 == 1) {
        ASSERT_TRUE(IsOk(object->Truncate(bytes / 2)));
      }
      sizes[fresh] = round % 4 == 1 ? bytes / 2 : bytes;
    }
    sizes.erase(chosen);
    chosen = fresh;
  }
  ExpectList(sizes);
  const FsckResult churned = Checked();
  EXPECT_EQ(churned.objects, objects);
  uint64_t blocks = 0;
  for (const auto& [_, bytes] : sizes) blocks += (bytes + kBlock - 1) / kBlock;
  EXPECT_EQ(churned.mapped_blocks, blocks);

  Reopen();
  for (const std::string& each : names) ASSERT_TRUE(IsOk(store_->Remove(each)));
  // With no leak among the findings, nothing else can have a block.
  const FsckResult emptied = Checked();
  EXPECT_EQ(emptied.objects, 0);
  EXPECT_EQ(emptied.mapped_blocks, 0);
  EXPECT_EQ(emptied.tree_nodes, none.tree_nodes);
}

}  // namespace
}  // namespace untorn
