#include "base/probes.h"

#include <sys/sdt.h>

// A note must not outlive its code. The linker drops functions that nobody calls, and does not know that a note belongs to
// one. So the probes are in functions of their own, which stay.
#define UNTORN_STAYS [[gnu::noinline, gnu::used, gnu::retain]]

namespace untorn::probes {

UNTORN_STAYS void Submit(uint64_t object, uint64_t offset_bytes, uint64_t length_bytes) {
  DTRACE_PROBE3(untorn, submit, object, offset_bytes, length_bytes);
}

UNTORN_STAYS void Plan(uint64_t change_sets, uint64_t bytes, int reason) {
  DTRACE_PROBE3(untorn, plan, change_sets, bytes, reason);
}

UNTORN_STAYS void Completion(int op, uint64_t offset_bytes, uint64_t length_bytes, int code) {
  DTRACE_PROBE4(untorn, completion, op, offset_bytes, length_bytes, code);
}

UNTORN_STAYS void Commit(uint64_t lsn, uint64_t bytes, uint64_t took_ns) {
  DTRACE_PROBE3(untorn, commit, lsn, bytes, took_ns);
}

UNTORN_STAYS void Checkpoint(uint64_t generation) { DTRACE_PROBE1(untorn, checkpoint, generation); }

}  // namespace untorn::probes
