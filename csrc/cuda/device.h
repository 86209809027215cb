// The one include of device code: real CUDA under nvcc, threads as fibers under a host compiler.
//
// `launch` is the only way a kernel is started, so that grids and sequences of kernels are computed by code that both
// run.
#pragma once

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include <cstdint>

#define DETPROBE_UNROLL _Pragma("unroll")

namespace detprobe {

using Stream = cudaStream_t;

template <class... Parameters, class... Arguments>
void launch(dim3 grid, dim3 block, Stream stream, void (*kernel)(Parameters...), Arguments... arguments) {
  kernel<<<grid, block, 0, stream>>>(static_cast<Parameters>(arguments)...);
}

}  // namespace detprobe

#else

#include "../emulator/emulator.h"

#define DETPROBE_UNROLL

#endif

namespace detprobe {

constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

// One grid for every device: enough blocks to fill the largest, each thread striding on.
inline uint32_t blocks_for(int64_t n, int64_t per_block) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  return static_cast<uint32_t>(blocks < 1 ? 1 : (blocks > 2048 ? 2048 : blocks));
}

using Counter = unsigned long long;  // what CUDA's 64-bit integer atomics take

}  // namespace detprobe
