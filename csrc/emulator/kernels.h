// The kernels of the reductions on the emulator.
#pragma once

#include "../arith/job.h"

namespace detprobe::emulator {

// For all calls that follow: the schedule, and whether one kernel may do a whole op.
const Kernels& kernels(uint64_t schedule_seed, bool fused);

}  // namespace detprobe::emulator
