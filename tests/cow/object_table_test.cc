// Objects stay in memory while something refers to them.
#include "cow/object_table.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/cow/cow_fork_testing.h"

namespace untorn {
namespace {

using ObjectTableTest = CowForkTest;

TEST_F(ObjectTableTest, ObjectsAreForgottenWhenNothingRefersToThem) {
  object_.reset();
  fork_.objects().ForgetIdle();
  EXPECT_EQ(fork_.objects().Find(ObjectId{1}), nullptr);
  EXPECT_EQ(fork_.objects().Find(ObjectId{2}), other_);
  const ChangeSetRef set = Write({0, 1}, 'a', other_);
  other_.reset();
  fork_.objects().ForgetIdle();
  ASSERT_NE(fork_.objects().Find(ObjectId{2}), nullptr) << "a pending change set changes it";
  Commit(set);
  fork_.objects().ForgetIdle();
  EXPECT_NE(fork_.objects().Find(ObjectId{2}), nullptr) << "it has pages";
  Evict(0);
  fork_.objects().ForgetIdle();
  EXPECT_EQ(fork_.objects().Find(ObjectId{2}), nullptr);
}

}  // namespace
}  // namespace untorn
