// DSUM-1 and DSCAN-1: the numbers that fix the order (csrc/README.md).
#pragma once

#include "fp.h"

namespace detprobe {

constexpr int32_t kLanes = 32;
constexpr int32_t kBlock = 1024;  // elements of a block, and of a tile of a scan
constexpr int32_t kStrip = 32;    // elements of a strip of a scan

DETPROBE_HD int64_t blocks_of(int64_t n) { return (n + kBlock - 1) / kBlock; }

}  // namespace detprobe
