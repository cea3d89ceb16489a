// Names that are not durable yet.
#include "cow/pending_names.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/cow/cow_fork_testing.h"

namespace untorn {
namespace {

using PendingNamesTest = CowForkTest;

TEST_F(PendingNamesTest, NamesBelongToTheChangeSetThatStagedThemLast) {
  const ChangeSetRef a = fork_.SetForObject(object_);
  fork_.names().Stage(*a, "x", object_);
  EXPECT_EQ(fork_.names().PendingSet("x", fork_.epoch()), a);
  ASSERT_NE(fork_.names().Find("x"), nullptr);
  EXPECT_EQ(fork_.names().Find("x")->object, object_);
  Freeze(a);
  EXPECT_EQ(fork_.names().PendingSet("x", fork_.epoch()), nullptr) << "nothing can join it any more";
  const ChangeSetRef b = fork_.SetForObject(other_);
  fork_.names().Stage(*b, "x", nullptr);
  EXPECT_EQ(fork_.names().Find("x")->object, nullptr);
  Complete(a);
  ASSERT_NE(fork_.names().Find("x"), nullptr) << "a newer change of it is pending";
  Commit(b);
  EXPECT_EQ(fork_.names().Find("x"), nullptr);
}

}  // namespace
}  // namespace untorn
