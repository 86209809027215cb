// The shipped kernels of the reductions with one thing wrong, and beside them without it: what the comparison with the
// reference has to catch.
//
// Built and driven by tests/test_emulated_faults.py. Results go through guarded memory.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "../../csrc/cuda/run.cuh"

namespace py = pybind11;

namespace detprobe::cuda {
namespace {

// An absent lane holds +0.0, and a row of -0.0 becomes +0.0.
struct PlusZero : Plus {
  template <class A>
  static DETPROBE_FN A identity() {
    return A{0};
  }
};
struct AddFromZero : Step<true, false, 0, 0, PlusZero> {
  template <class V>
  static DETPROBE_FN V apply(V s, V x, V, const V*, const V*) {
    return add(s, x);
  }
};
// One rounding where the contract has two, and two where it has one.
struct FusedWeightedSum : Step<false, true, 1, 0> {
  template <class V>
  static DETPROBE_FN V apply(V s, V, V y, const V* e, const V*) {
    return fused(y, e[0], s);
  }
};
struct RoundedProduct : Step<true, true, 0, 0> {
  template <class V>
  static DETPROBE_FN V apply(V s, V x, V y, const V*, const V*) {
    return add(s, mul(x, y));
  }
};

// A row shared out evenly over the blocks of the grid, as a reduction for one device would have it.
template <class S, class A>
__global__ void split_by_grid(const __grid_constant__ Job job, A* sums) {
  const int64_t share = (job.g.n + gridDim.x - 1) / gridDim.x, from = blockIdx.x * share;
  const int64_t left = job.g.n - from, k = left < 0 ? 0 : (left < share ? left : share);
  const A s = block_sum<S, A>(job, {place_of(job.g.kept, 0), from, static_cast<int32_t>(k)}, nullptr);
  if (threadIdx.x == 0) sums[blockIdx.x] = s;
}

using Floats = std::vector<float>;
using Kernel = void (*)(const Job, float*);

Job job_of(const Floats& x, const Floats& y, int64_t rows, int64_t n, bool across) {
  Job job;
  job.type = Type::f32;
  const int64_t sizes[] = {rows, n}, down[] = {n, 1}, beside[] = {1, rows};
  const bool reduced[] = {false, true};
  split(sizes, across ? beside : down, across ? beside : down, reduced, 2, job.g);
  job.x = x.data();
  job.y = y.data();
  job.e[0] = y.data();
  return job;
}

// One sum for each row of at most one block, or for each block of the grid.
Floats start(Kernel kernel, const Job& job, dim3 grid, dim3 block, int64_t size, uint64_t seed) {
  emulator::Guarded sums(static_cast<size_t>(size) * sizeof(float));
  auto* data = static_cast<float*>(sums.data());
  emulator::set_seed(seed);
  launch(grid, block, nullptr, kernel, job, data);
  sums.check();
  return {data, data + size};
}

}  // namespace
}  // namespace detprobe::cuda

PYBIND11_MODULE(reduction_faults, m) {
  using namespace detprobe;
  using namespace detprobe::cuda;
  // x and y: [rows, n], for `across` stored column by column
  const auto rows = [&m](const char* name, Kernel kernel) {
    m.def(name, [kernel](const Floats& x, const Floats& y, int64_t rows, uint64_t seed) {
      const int64_t n = static_cast<int64_t>(x.size()) / rows;
      return start(kernel, job_of(x, y, rows, n, false), dim3(1), dim3(kLanes, 2), rows, seed);
    });
  };
  rows("sum", reduce_blocks<AddX, float>);
  rows("sum_from_zero", reduce_blocks<AddFromZero, float>);
  rows("dot", reduce_blocks<Product, float>);
  rows("dot_with_two_roundings", reduce_blocks<RoundedProduct, float>);
  rows("weighted_sum", reduce_blocks<WeightedSum, float>);
  rows("weighted_sum_with_one_rounding", reduce_blocks<FusedWeightedSum, float>);
  const auto across = [&m](const char* name, Kernel kernel) {
    m.def(name, [kernel](const Floats& x, int64_t rows, uint64_t seed) {
      const int64_t n = static_cast<int64_t>(x.size()) / rows;
      return start(kernel, job_of(x, x, rows, n, true), dim3(1), dim3(kLanes, kColumnWarps), rows, seed);
    });
  };
  across("columns", reduce_columns<AddX, float>);
  across("columns_without_a_barrier", reduce_columns<AddX, float, false>);
  // The sums of the blocks of a grid, of one row.
  m.def("partials_by_blocks", [](const Floats& x, uint32_t blocks, uint64_t seed) {
    const int64_t n = static_cast<int64_t>(x.size());
    return start(reduce_blocks<AddX, float>, job_of(x, x, 1, n, false), dim3(blocks), dim3(kLanes, 1), blocks_of(n),
                 seed);
  });
  m.def("partials_by_grid", [](const Floats& x, uint32_t blocks, uint64_t seed) {
    const int64_t n = static_cast<int64_t>(x.size());
    return start(split_by_grid<AddX, float>, job_of(x, x, 1, n, false), dim3(blocks), dim3(kLanes, 1), blocks, seed);
  });
}
