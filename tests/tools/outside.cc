// A program outside the tree: tests/tools/install_test.sh builds it against the installed files.
#include <iostream>
#include <string_view>

#include "untorn/inspect.h"
#include "untorn/metrics.h"
#include "untorn/store.h"

int main(int, char** argv) {
  absl::Status created = untorn::Store::Create(argv[1], {.size_bytes = 64 << 20});
  if (!created.ok()) return std::cerr << created << "\n", 1;
  auto store = untorn::Store::Open(argv[1], {});
  if (!store.ok()) return std::cerr << store.status() << "\n", 1;
  const std::string_view text = "hello";
  untorn::Transaction transaction = (*store)->Begin();
  auto object = transaction.CreateObject("object");
  if (!object.ok()) return 1;
  if (!transaction.Write(*object, 0, std::as_bytes(std::span(text))).ok()) return 1;
  if (!transaction.Commit().ok() || *object->Size() != text.size()) return 1;
  std::cout << untorn::PathReasonName(untorn::PathReason::kUnmapped) << "\n";
  const untorn::Stats stats = (*store)->stats();
  if (stats.durable_call_latency.PercentileNs(50) == 0) return 1;
  if (untorn::PrometheusText((*store)->info(), stats).empty()) return 1;
  if (absl::Status closed = (*store)->Close(); !closed.ok()) return std::cerr << closed << "\n", 1;
  return untorn::Fsck(argv[1])->findings_total == 0 ? 0 : 1;
}
