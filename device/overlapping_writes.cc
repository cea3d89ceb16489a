#include "device/overlapping_writes.h"

namespace untorn {

void OverlappingWrites::Complete(std::vector<IoRequest*>* completed, std::vector<IoRequest*>* outbox) {
  if (!under_way()) return;
  std::erase_if(*completed, [this](IoRequest* request) {
    if (std::erase(on_device_, request) == 0) return false;
    held_.push_back(request);
    return true;
  });
  if (under_way()) return;
  completed->insert(completed->end(), held_.begin(), held_.end());
  held_.clear();
  outbox->insert(outbox->end(), flushes_.begin(), flushes_.end());
  flushes_.clear();
}

}  // namespace untorn
