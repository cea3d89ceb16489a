// The faster road is found, and kept an eye on, at little cost.
#include "device/road_choice.h"

#include <gtest/gtest.h>

namespace untorn {
namespace {

struct Costs {
  int64_t execute_ns, submit_ns;
};

// Returns how many of `requests` took the road.
uint64_t Requests(RoadChoice& choice, Costs costs, uint64_t requests, Road road) {
  uint64_t taken = 0;
  for (uint64_t i = 0; i < requests; ++i) {
    const Road next = choice.Next();
    taken += next == road;
    choice.Took(next, next == Road::kExecute ? costs.execute_ns : costs.submit_ns);
  }
  return taken;
}

TEST(RoadChoiceTest, FirstRequestIsExecuted) { EXPECT_EQ(RoadChoice().Next(), Road::kExecute); }

TEST(RoadChoiceTest, FasterRoadIsTaken) {
  RoadChoice executes, submits;
  constexpr uint64_t kRequests = 100'000;
  EXPECT_GT(Requests(executes, {10, 11}, kRequests, Road::kExecute), kRequests * 99 / 100);
  EXPECT_GT(Requests(submits, {11, 10}, kRequests, Road::kSubmit), kRequests * 99 / 100);
}

TEST(RoadChoiceTest, OtherRoadIsTriedLessAndLess) {
  RoadChoice choice;
  constexpr uint64_t kRequests = 32 * RoadChoice::kRestMax;
  Requests(choice, {10, 100}, kRequests, Road::kExecute);
  EXPECT_LE(Requests(choice, {10, 100}, kRequests, Road::kSubmit), 32 * RoadChoice::kTrial);
}

TEST(RoadChoiceTest, RoadThatBecomesFasterIsFound) {
  RoadChoice choice;
  Requests(choice, {10, 100}, 1'000'000, Road::kExecute);
  Requests(choice, {10, 5}, RoadChoice::kRestMax + RoadChoice::kTrial, Road::kSubmit);
  EXPECT_EQ(choice.Next(), Road::kSubmit);
}

TEST(RoadChoiceTest, FewSlowRequestsChangeNothing) {
  RoadChoice choice;
  for (uint64_t i = 0; i < RoadChoice::kRestMin; ++i) choice.Took(choice.Next(), i % 3 == 0 ? 1000 : 10);
  for (size_t i = 0; i < RoadChoice::kTrial; ++i) {
    EXPECT_EQ(choice.Next(), Road::kSubmit);
    choice.Took(Road::kSubmit, i % 3 == 0 ? 1 : 11);
  }
  EXPECT_EQ(choice.Next(), Road::kExecute);
}

}  // namespace
}  // namespace untorn
