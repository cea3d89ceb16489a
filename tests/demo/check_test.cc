// The demo's checks can fail: each kind of violation, written on purpose, is found.
#include "demo/check.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "demo/plan.h"
#include "demo/ranges.h"
#include "demo/shared.h"
#include "untorn/store.h"

namespace untorn::demo {
namespace {

constexpr uint64_t kKiB = 1024;
enum : size_t { kSync, kGroup, kBarrier, kOverlap, kPunch, kAppend };

std::vector<Track> TestTracks() {
  return {
      {TrackKind::kSync, 0, {{.offset = 0, .length = 16 * kKiB, .range = 1}}},
      {TrackKind::kGroup,
       0,
       {{.offset = 16 * kKiB, .length = 5000, .range = 2},
        {.object = TargetObject::kSecond, .offset = 0, .length = 4 * kKiB, .range = 3}}},
      {TrackKind::kBarrier,
       0,
       {{.offset = 32 * kKiB, .length = 4 * kKiB, .range = 4},
        {.offset = 48 * kKiB, .length = 4 * kKiB, .range = 5}}},
      {TrackKind::kOverlap,
       0,
       {{.offset = 64 * kKiB, .length = 9001, .range = 6},
        {.offset = 64 * kKiB + 4500, .length = 9001, .range = 7}}},
      {TrackKind::kPunch, 0, {{.offset = 128 * kKiB, .length = 10 * kKiB, .range = 8}}},
      {TrackKind::kAppend, 0, {{.object = TargetObject::kAppends, .length = kAppendBytes, .range = 9}}},
  };
}

class DemoCheckTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/check.untorn";
    ASSERT_TRUE(Store::Create(path, {.size_bytes = 32 << 20, .force = true}).ok());
    auto store = Store::Open(path, {});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    objects_ = {*store_->CreateObject("file"), *store_->CreateObject("second"),
                *store_->CreateObject("appends")};
    // All tracks begin with a version 4 from before the round, and have written versions 10 to 20 in it.
    for (size_t i = 0; i < tracks_.size(); ++i) {
      for (size_t p = 0; p < tracks_[i].pieces.size(); ++p) Write(i, p, 4);
      TrackState& state = shared_->tracks[i];
      state.base.fill(4);
      state.first = 10;
      state.submitted = 20;
    }
    WriteOverlap(3);
    WriteOverlap(4);
    shared_->tracks[kOverlap].base = {4, 3};
    ASSERT_TRUE(objects_.appends.Truncate(0).ok());
    Append(4);
    Expect(0, 0);
  }

  void Write(size_t track, size_t piece, uint64_t version) {
    const Piece& p = tracks_[track].pieces[piece];
    std::vector<std::byte> content(p.length);
    FillStamped({p.range, version}, content);
    ASSERT_TRUE(objects_[p.object].Write(p.offset, content).ok());
  }

  void WriteOverlap(uint64_t version) { Write(kOverlap, version % 2, version); }

  void Append(uint64_t count) {
    std::vector<std::byte> content(kAppendBytes);
    for (uint64_t i = 0; i < count; ++i) {
      FillStamped({tracks_[kAppend].pieces[0].range, i}, content);
      ASSERT_TRUE(objects_.appends.Write(i * kAppendBytes, content).ok());
    }
  }

  void Overwrite(const Object& object, uint64_t offset, size_t length) {
    ASSERT_TRUE(object.Write(offset, std::vector<std::byte>(length, std::byte{0x5A})).ok());
  }

  void Expect(uint64_t torn, uint64_t lost) {
    versions_.clear();
    Verdict verdict;
    Checker checker(tracks_, *shared_, objects_);
    for (size_t i = 0; i < tracks_.size(); ++i) {
      auto versions = checker.CheckTrack(i, &verdict);
      ASSERT_TRUE(versions.ok()) << versions.status();
      versions_.push_back(*versions);
    }
    EXPECT_EQ(verdict.torn, torn) << testing::PrintToString(verdict.notes);
    EXPECT_EQ(verdict.lost, lost) << testing::PrintToString(verdict.notes);
    EXPECT_EQ(verdict.notes.size(), torn + lost);
  }

  const std::vector<Track> tracks_ = TestTracks();
  const std::unique_ptr<Shared> shared_ = std::make_unique<Shared>();
  std::unique_ptr<Store> store_;
  Objects objects_;
  std::vector<std::array<uint64_t, kPiecesMax>> versions_;  // by track, as the last Expect found them
};

TEST_F(DemoCheckTest, AnyVersionSinceTheDurableOneIsRight) {
  shared_->tracks[kSync].durable = 12;
  for (const uint64_t version : {12, 13, 20}) {
    Write(kSync, 0, version);
    Expect(0, 0);
  }
}

TEST_F(DemoCheckTest, MixIsTorn) {
  Overwrite(objects_.file, 8 * kKiB, 512);
  Expect(1, 0);
}

TEST_F(DemoCheckTest, OlderThanDurableIsLost) {
  shared_->tracks[kSync].durable = 12;
  Expect(0, 1);  // the version from before the round
  Write(kSync, 0, 11);
  Expect(0, 1);
}

TEST_F(DemoCheckTest, VersionThatCrashesHadDroppedIsLost) {
  Write(kSync, 0, 7);
  Expect(0, 1);
}

TEST_F(DemoCheckTest, VersionNeverSubmittedIsLost) {
  Write(kSync, 0, 21);
  Expect(0, 1);
}

TEST_F(DemoCheckTest, PartOfATransactionIsTorn) {
  Write(kGroup, 0, 12);
  Expect(1, 0);
}

TEST_F(DemoCheckTest, AbandonedTransactionIsTorn) {
  Write(kGroup, 0, 17);
  Write(kGroup, 1, 17);
  ASSERT_TRUE(IsAbandoned(17));
  Expect(2, 0);
}

TEST_F(DemoCheckTest, NothingOvertakesABarrier) {
  Write(kBarrier, 0, 12);
  Expect(0, 0);
  Write(kBarrier, 1, 13);
  Expect(0, 1);
}

TEST_F(DemoCheckTest, OverlapsAreAPrefix) {
  for (uint64_t version = 11; version < 15; ++version) {
    shared_->tracks[kOverlap].first = 11;
    WriteOverlap(version);
    Expect(0, 0);
    EXPECT_EQ(versions_[kOverlap][0], version);
    EXPECT_EQ(versions_[kOverlap][1], version == 11 ? 4 : version - 1);
  }
}

TEST_F(DemoCheckTest, OverlapWithoutTheWriteBeforeIsTorn) {
  shared_->tracks[kOverlap].first = 11;
  WriteOverlap(11);
  WriteOverlap(14);
  Expect(1, 0);
}

TEST_F(DemoCheckTest, OverlapThatIsAMixIsTorn) {
  shared_->tracks[kOverlap].first = 11;
  WriteOverlap(11);
  Overwrite(objects_.file, 64 * kKiB + 4500 + 512, 512);
  Expect(1, 0);
}

TEST_F(DemoCheckTest, HoleMustHaveBeenPunched) {
  ASSERT_TRUE(objects_.file.PunchHole(128 * kKiB, 10 * kKiB).ok());
  Expect(0, 0);  // an odd version from 10 to 20
  shared_->tracks[kPunch].durable = 20;
  Expect(0, 1);
  shared_->tracks[kPunch].durable = 0;
  shared_->tracks[kPunch].submitted = 10;
  Expect(0, 1);
}

TEST_F(DemoCheckTest, HalfPunchedIsTorn) {
  ASSERT_TRUE(objects_.file.PunchHole(132 * kKiB, 6 * kKiB).ok());
  Expect(1, 0);
}

TEST_F(DemoCheckTest, PartOfAnAppendedRecordIsTorn) {
  ASSERT_TRUE(objects_.appends.Truncate(5 * kAppendBytes - 1).ok());
  Expect(1, 0);
  ASSERT_TRUE(objects_.appends.Truncate(5 * kAppendBytes).ok());
  Expect(1, 0);
}

TEST_F(DemoCheckTest, FewerRecordsThanDurableAreLost) {
  shared_->tracks[kAppend].durable = 5;
  Expect(0, 1);
  Append(5);
  Expect(0, 0);
}

TEST_F(DemoCheckTest, WhatAReaderSeesMustBeWhole) {
  Checker checker(tracks_, *shared_, objects_);
  Verdict verdict;
  for (size_t i = 0; i < tracks_.size(); ++i) ASSERT_TRUE(checker.CheckLive(i, 0, &verdict).ok());
  EXPECT_EQ(verdict.torn + verdict.lost, 0u);
  Overwrite(objects_.file, 100, 1);
  ASSERT_TRUE(checker.CheckLive(kSync, 0, &verdict).ok());
  EXPECT_EQ(verdict.torn, 1u);
}

TEST(DemoPlanTest, TracksDoNotOverlap) {
  for (const uint64_t file_bytes : {kFileBytesMin, kFileBytesMin + 12345, uint64_t{64} << 20}) {
    uint64_t untouched = 0, lengths = 0;
    const std::vector<Track> tracks = MakeTracks(file_bytes);
    for (const auto& [begin, end] : UntouchedBytes(tracks, file_bytes)) {
      EXPECT_LT(begin, end);
      EXPECT_LE(end, file_bytes);
      untouched += end - begin;
    }
    for (const Track& track : tracks) {
      for (const Piece& piece : track.pieces) {
        if (piece.object == TargetObject::kFile) lengths += piece.length;
      }
      if (track.kind == TrackKind::kOverlap) lengths -= track.pieces[0].length - track.pieces[0].length / 2;
    }
    EXPECT_EQ(file_bytes - untouched, lengths) << file_bytes;
  }
}

}  // namespace
}  // namespace untorn::demo
