// What each instruction set offers: the same kernels, compiled three times, chosen when they are first asked for.
#pragma once

#include "../arith/job.h"

namespace detprobe {

struct InstructionSet {
  const char* name;
  const char* (*run)(const Job&);
  const char* (*scan)(const ScanJob&);
};

// The scatter family, in files of its own.
struct ScatterSet {
  const char* (*fold)(const SegmentJob&);
  const char* (*own)(const OwnerJob&);
};

extern const InstructionSet kBaseline;
extern const ScatterSet kBaselineScatter;
#if defined(__x86_64__)
extern const InstructionSet kAvx2, kAvx512;
extern const ScatterSet kAvx2Scatter, kAvx512Scatter;
#endif

// The best that this machine has; DETPROBE_CPU=baseline|avx2|avx512 in the environment asks for less.
const InstructionSet& instruction_set();

const Kernels& cpu_kernels();

}  // namespace detprobe
