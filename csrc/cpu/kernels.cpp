// Chooses the instruction set, once.
#include "kernels.h"

#include <c10/util/Exception.h>

#include <cstdlib>
#include <string>

#include "exact.h"

namespace detprobe {
namespace {

struct Chosen {
  const InstructionSet& set;
  const ScatterSet& scatter;
};

Chosen choose() {
  const char* asked = std::getenv("DETPROBE_CPU");
  const std::string wish = asked ? asked : "";
  TORCH_CHECK(wish.empty() || wish == "baseline" || wish == "avx2" || wish == "avx512",
              "DETPROBE_CPU: expected baseline, avx2 or avx512, got '", wish, "'");
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  [[maybe_unused]] const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                                       __builtin_cpu_supports("avx512vl");
#ifndef DETPROBE_WITHOUT_AVX512
  if (avx512 && (wish.empty() || wish == "avx512")) return {kAvx512, kAvx512Scatter};
#endif
#ifndef DETPROBE_WITHOUT_AVX2
  if (avx2 && wish != "baseline") return {kAvx2, kAvx2Scatter};
#endif
#endif
  return {kBaseline, kBaselineScatter};
}

const Chosen& chosen() {
  static const Chosen once = choose();
  return once;
}

const char* run(const Job& job) { return instruction_set().run(job); }
const char* scan(const ScanJob& job) { return instruction_set().scan(job); }
const char* exact(const ExactJob& job) {
  exact_sum(job.type, job.g, job.x, job.out);
  return nullptr;
}

}  // namespace

const InstructionSet& instruction_set() { return chosen().set; }

const Kernels& cpu_kernels() {
  static const Kernels table = {instruction_set().name,
                                run,
                                scan,
                                exact,
                                chosen().scatter.fold,
                                chosen().scatter.own,
                                [](const Job&) { return int64_t(0); },
                                [](const ScanJob&) { return int64_t(0); },
                                [](const ExactJob&) { return int64_t(0); },
                                [](const SegmentJob&) { return int64_t(0); }};
  return table;
}

}  // namespace detprobe
