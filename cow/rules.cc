#include "cow/rules.h"

namespace untorn::rules {

bool MayPassOneThatWritesTheSameBlock() { return false; }

}  // namespace untorn::rules
