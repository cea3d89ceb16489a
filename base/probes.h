// Probes for tracers such as bpftrace, perf and SystemTap. A probe is a nop, and a note in the ELF file that says where its
// arguments are (sys/sdt.h). So while nobody traces, a probe costs a call. docs/watching.md tells the arguments; programs
// rely on their order.
#ifndef UNTORN_BASE_PROBES_H_
#define UNTORN_BASE_PROBES_H_

#include <cstdint>

namespace untorn::probes {

// A write to an object was accepted, or was put into a transaction.
void Submit(uint64_t object, uint64_t offset_bytes, uint64_t length_bytes);
// It is decided how change sets become durable. All of them have the same path reason, by its number.
void Plan(uint64_t change_sets, uint64_t bytes, int reason);
// The device has ended a request. `op` is the number of an IoOp, and `code` that of an absl::StatusCode.
void Completion(int op, uint64_t offset_bytes, uint64_t length_bytes, int code);
// A commit is durable. `lsn` is that of its last record, and 0 if it has none because it went in place.
void Commit(uint64_t lsn, uint64_t bytes, uint64_t took_ns);
// A checkpoint is durable.
void Checkpoint(uint64_t generation);

}  // namespace untorn::probes

#endif  // UNTORN_BASE_PROBES_H_
