// Kernels for the emulator alone: faults that it has to catch, and the shipped kernels under grids of any size.
//
// Built and driven by tests/test_emulator.py. A planted kernel's result goes through guarded memory.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "../../csrc/cuda/compare.cuh"
#include "../../csrc/cuda/digest.cuh"

namespace py = pybind11;

namespace {

using namespace detprobe;

constexpr uint32_t kBlock = 256;

// Sums the integers of a block in shared memory. `kStore`, `kLoop`: which of the two barriers is there.
template <bool kStore, bool kLoop>
__global__ void tree(const int64_t* in, int64_t* out) {
  __shared__ int64_t parts[kBlock];
  const uint32_t t = threadIdx.x;
  parts[t] = in[blockIdx.x * kBlock + t];
  if (kStore) __syncthreads();
  for (uint32_t half = kBlock / 2; half > 0; half >>= 1) {
    if (t < half) parts[t] += parts[t + half];
    if (kLoop) __syncthreads();
  }
  if (t == 0) out[blockIdx.x] = parts[0];
}

// Every thread leaves its number and reads that of the next one, with a barrier between or without.
template <bool kBarrier>
__global__ void neighbour(const int64_t* in, int64_t* out) {
  __shared__ int64_t parts[kBlock];
  parts[threadIdx.x] = in[threadIdx.x];
  if (kBarrier) __syncthreads();
  out[threadIdx.x] = parts[(threadIdx.x + 1) % kBlock];
}

__global__ void barrier_for_some(const int64_t*, int64_t* out) {
  if (threadIdx.x < kBlock / 2) __syncthreads();
  out[threadIdx.x] = threadIdx.x;
}

__global__ void barrier_in_a_loop_of_uneven_length(const int64_t*, int64_t* out) {
  for (uint32_t i = 0; i < threadIdx.x % 3; ++i) __syncthreads();
  out[threadIdx.x] = threadIdx.x;
}

__global__ void barrier_in_both_branches(const int64_t*, int64_t* out) {
  if (threadIdx.x % 2 == 0) {
    out[threadIdx.x] = 0;
    __syncthreads();
  } else {
    __syncthreads();
    out[threadIdx.x] = 1;
  }
}

__global__ void shuffle_without_a_lane(const int64_t* in, int64_t* out) {
  if (threadIdx.x % 32 == 5) return;
  out[threadIdx.x] = __shfl_down_sync(kAllLanes, in[threadIdx.x], 1u);
}

__global__ void shuffle_while_a_lane_is_at_a_barrier(const int64_t* in, int64_t* out) {
  if (threadIdx.x % 32 != 5) out[threadIdx.x] = __shfl_down_sync(kAllLanes, in[threadIdx.x], 1u);
  __syncthreads();
}

__global__ void shuffle_with_unlike_masks(const int64_t* in, int64_t* out) {
  const uint32_t mask = threadIdx.x % 32 < 16 ? kAllLanes : 0xFFFF0000u;
  out[threadIdx.x] = __shfl_down_sync(mask, in[threadIdx.x], 1u);
}

__global__ void shuffle_beside_a_vote(const int64_t* in, int64_t* out) {
  if (threadIdx.x % 32 < 16) {
    out[threadIdx.x] = __shfl_xor_sync(kAllLanes, in[threadIdx.x], 1);
  } else {
    out[threadIdx.x] = __any_sync(kAllLanes, in[threadIdx.x] > 5);
  }
}

__global__ void shuffle_outside_of_its_own_mask(const int64_t* in, int64_t* out) {
  out[threadIdx.x] = __shfl_sync(0x0000FFFFu, in[threadIdx.x], 0);
}

// Lanes 0 to 15 alone, as their mask says: no fault.
__global__ void shuffle_of_half_a_warp(const int64_t* in, int64_t* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_xor_sync(0x0000FFFFu, in[threadIdx.x], 1);
}

__global__ void write_behind(const int64_t*, int64_t* out) { out[threadIdx.x + 1] = threadIdx.x; }
__global__ void write_before(const int64_t*, int64_t* out) { *(out + threadIdx.x - 1) = threadIdx.x; }
__global__ void write_inside(const int64_t*, int64_t* out) { out[threadIdx.x] = threadIdx.x; }

__global__ void add_floats(const float* in, float* out) { atomicAdd(out, in[blockIdx.x * kBlock + threadIdx.x]); }

__global__ void claim_places(const int64_t*, int64_t* out) { out[atomicAdd(out, int64_t{1}) + 1] = threadIdx.x; }

using Words = std::vector<int64_t>;

// Runs a kernel on `in`, one thread per number, and gives back `size` numbers.
Words start(void (*kernel)(const int64_t*, int64_t*), const Words& in, size_t size, uint64_t seed) {
  emulator::Guarded out(size * sizeof(int64_t));
  auto* data = static_cast<int64_t*>(out.data());
  std::fill(data, data + size, 0);
  emulator::set_seed(seed);
  launch(dim3(static_cast<uint32_t>(in.size()) / kBlock), dim3(kBlock), nullptr, kernel, in.data(), data);
  out.check();
  return {data, data + size};
}

float sum_floats(const std::vector<float>& in, uint64_t seed) {
  emulator::Guarded out(sizeof(float));
  auto* sum = static_cast<float*>(out.data());
  *sum = 0;
  emulator::set_seed(seed);
  launch(dim3(static_cast<uint32_t>(in.size()) / kBlock), dim3(kBlock), nullptr, add_floats, in.data(), sum);
  out.check();
  return *sum;
}

// The shipped kernels, with the number of blocks as an argument: each thread then strides over several elements.
Words compare(uintptr_t a, uintptr_t b, int64_t n, const std::vector<int32_t>& f, uint32_t blocks, uint64_t seed) {
  Layout layout;
  const int64_t one = 1;
  join(&n, &one, &one, 1, layout);
  const Format format{static_cast<Kind>(f.at(0)), f.at(1), f.at(2), f.at(3), f.at(4), f.at(5)};
  emulator::Guarded record(sizeof(Record));
  auto* out = static_cast<Record*>(record.data());
  emulator::set_seed(seed);
  launch(dim3(1), dim3(1), nullptr, compare_start, out);
  launch(dim3(blocks), dim3(kCompareBlock), nullptr, compare_elements, reinterpret_cast<const unsigned char*>(a),
         reinterpret_cast<const unsigned char*>(b), layout, format, n, out);
  record.check();
  return {out->count, out->nan_count, out->ulp, out->abs, out->first};
}

std::vector<uint64_t> digest(uintptr_t data, int64_t bytes, int32_t size, uint32_t blocks, uint64_t seed) {
  const uint64_t shape = shape_key(static_cast<uint64_t>(bytes), &bytes, 1);
  emulator::Guarded lanes(2 * sizeof(uint64_t));
  auto* out = static_cast<uint64_t*>(lanes.data());
  emulator::set_seed(seed);
  launch(dim3(1), dim3(1), nullptr, digest_start, out);
  launch(dim3(blocks), dim3(kDigestBlock), nullptr, digest_words, reinterpret_cast<const unsigned char*>(data), bytes,
         size, out);
  launch(dim3(1), dim3(1), nullptr, digest_finish, out, shape);
  lanes.check();
  return {out[0], out[1]};
}

}  // namespace

PYBIND11_MODULE(faults, m) {
  const auto def = [&m](const char* name, void (*kernel)(const int64_t*, int64_t*)) {
    m.def(name, [kernel](const Words& in, size_t size, uint64_t seed) { return start(kernel, in, size, seed); });
  };
  def("tree", tree<true, true>);
  def("tree_without_the_barrier_after_the_store", tree<false, true>);
  def("tree_without_the_barrier_in_the_loop", tree<true, false>);
  def("neighbour", neighbour<true>);
  def("neighbour_without_a_barrier", neighbour<false>);
  def("barrier_for_some", barrier_for_some);
  def("barrier_in_a_loop_of_uneven_length", barrier_in_a_loop_of_uneven_length);
  def("barrier_in_both_branches", barrier_in_both_branches);
  def("shuffle_without_a_lane", shuffle_without_a_lane);
  def("shuffle_while_a_lane_is_at_a_barrier", shuffle_while_a_lane_is_at_a_barrier);
  def("shuffle_with_unlike_masks", shuffle_with_unlike_masks);
  def("shuffle_beside_a_vote", shuffle_beside_a_vote);
  def("shuffle_outside_of_its_own_mask", shuffle_outside_of_its_own_mask);
  def("shuffle_of_half_a_warp", shuffle_of_half_a_warp);
  def("write_behind", write_behind);
  def("write_before", write_before);
  def("write_inside", write_inside);
  def("claim_places", claim_places);
  m.def("sum_floats", sum_floats);
  m.def("compare", compare);
  m.def("digest", digest);
}
