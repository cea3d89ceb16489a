#include "tests/canaries/canary.h"

namespace untorn {

std::atomic<Canary> active_canary = Canary::kNone;

}  // namespace untorn
