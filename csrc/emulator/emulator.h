// CUDA threads as fibers on one host thread, so that the .cuh kernels run, and are caught, without a GPU.
//
// A block's threads are fibers that give way at barriers, shuffles and atomics. Who goes on is decided by a seed: 0
// ascending, 1 descending, any other a shuffled order of blocks and, again and again, of threads. A kernel whose result
// depends on arrival shows different results under different seeds. Errors end the launch with an exception:
//   - threads of a block at different barriers, or exited before one that others wait at (divergence),
//   - a warp operation that names lanes which do not take part,
//   - a write beyond a guarded buffer (`Guarded`).
// Blocks run one after the other, each on a host thread of its own, whose thread_local memory is the shared memory.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define __grid_constant__

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;

namespace detprobe {

using Stream = void*;

namespace emulator {

// The order in which threads and blocks go on, for all launches that follow.
void set_seed(uint64_t seed);

// Runs `body` once per thread of the grid.
void run(dim3 grid, dim3 block, const std::function<void()>& body);

// Where a fiber gives way.
enum class WarpOp : int { kSync, kShuffle, kVote };
void at_barrier(int site);
void at_atomic();
void at_warp(uint32_t mask, WarpOp op);                      // returns when every lane of the mask has come
uint64_t exchange(uint32_t mask, uint64_t value, int lane);  // the value that `lane` brought, after all have come
uint32_t gather_votes(uint32_t mask, bool vote);
int lane_id();
int warp_width();  // live threads of this warp, 32 but in a last partial one

// Memory with canaries on both sides, for buffers that a kernel is given.
class Guarded {
 public:
  explicit Guarded(size_t bytes);
  void* data() { return memory_.data() + kCanary; }
  // Throws when something was written outside.
  void check() const;

 private:
  static constexpr size_t kCanary = 256;
  std::vector<unsigned char> memory_;
};

template <class T>
uint64_t pack(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a lane carries at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T unpack(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulator

template <class... Parameters, class... Arguments>
void launch(dim3 grid, dim3 block, Stream, void (*kernel)(Parameters...), Arguments... arguments) {
  emulator::run(grid, block, [&] { kernel(static_cast<Parameters>(arguments)...); });
}

}  // namespace detprobe

#define __syncthreads() ::detprobe::emulator::at_barrier(__LINE__)
inline void __syncwarp(uint32_t mask = 0xFFFFFFFFu) {
  detprobe::emulator::at_warp(mask, detprobe::emulator::WarpOp::kSync);
}

template <class T>
T __shfl_sync(uint32_t mask, T value, int lane) {
  namespace emu = detprobe::emulator;
  return emu::unpack<T>(emu::exchange(mask, emu::pack(value), lane & 31));
}

// As on the device, a lane without a partner gets its own value back.
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta) {
  const int lane = detprobe::emulator::lane_id(), from = lane + static_cast<int>(delta);
  return __shfl_sync(mask, value, from < 32 ? from : lane);
}

template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta) {
  const int lane = detprobe::emulator::lane_id(), from = lane - static_cast<int>(delta);
  return __shfl_sync(mask, value, from >= 0 ? from : lane);
}

template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits) {
  return __shfl_sync(mask, value, detprobe::emulator::lane_id() ^ bits);
}

inline uint32_t __ballot_sync(uint32_t mask, bool vote) { return detprobe::emulator::gather_votes(mask, vote); }
inline bool __any_sync(uint32_t mask, bool vote) { return __ballot_sync(mask, vote) != 0; }
inline bool __all_sync(uint32_t mask, bool vote) { return __ballot_sync(mask, !vote) == 0; }

template <class T>
T atomicAdd(T* at, T value) {
  detprobe::emulator::at_atomic();
  const T old = *at;
  *at = old + value;
  return old;
}

template <class T>
T atomicCAS(T* at, T expected, T value) {
  detprobe::emulator::at_atomic();
  const T old = *at;
  if (old == expected) *at = value;
  return old;
}

template <class T>
T atomicMax(T* at, T value) {
  detprobe::emulator::at_atomic();
  const T old = *at;
  if (value > old) *at = value;
  return old;
}

template <class T>
T atomicMin(T* at, T value) {
  detprobe::emulator::at_atomic();
  const T old = *at;
  if (value < old) *at = value;
  return old;
}
