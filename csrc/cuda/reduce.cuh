// DSUM-1 as CUDA kernels: passes over rows, what follows from them for a row, and the map over all elements.
//
// Computes: an op of arith/ops.h.   Types, Level, Domain, Error bound: csrc/README.md.
// Order: DSUM-1. A lane of DSUM-1 is a lane of a warp (`block_sum`) or a thread of a column (`reduce_columns`); blocks
//        are what DSUM-1 calls so, and no grid changes them. No atomics; nothing waits for the host.
#pragma once

#include "access.cuh"

namespace detprobe::cuda {

constexpr uint32_t kWarps = 8;        // of a block, where each does work of its own
constexpr uint32_t kWarpsOfRow = 16;  // of a block that works on one row
constexpr int32_t kColumnWarps = 8;   // of a block that goes across rows

// The DSUM-1 lanes of a warp, folded as they are written; the result is in lane 0.
template <class C, class A>
DETPROBE_FN A fold_warp(A s) {
  for (uint32_t h = kLanes / 2; h > 0; h /= 2) s = C::combine(s, __shfl_down_sync(kAllLanes, s, h));
  return s;
}

// One lane of DSUM-1 over a part of a row.
template <class S, class A>
DETPROBE_FN A lane_sum(const Job& job, const Part& part, int32_t lane, const A* p) {
  A s = S::Combine::template identity<A>();
  sweep<A, kLanes>(job.g, part, lane, [&](const auto& c, int32_t i) {
    const Elements<S, A, kLanes> elements(job, c, part.from + i);
    DETPROBE_UNROLL
    for (int u = 0; u < kChunk<A>; ++u) {
      const A next = elements.at(u, [&](A x, A y, const A* e) { return S::apply(s, x, y, e, p); });
      s = u < c.live ? next : s;
    }
  });
  return s;
}

// BLK, by one warp; the result is in lane 0.
template <class S, class A>
DETPROBE_FN A block_sum(const Job& job, const Part& part, const A* p) {
  return fold_warp<typename S::Combine>(lane_sum<S>(job, part, static_cast<int32_t>(threadIdx.x), p));
}

DETPROBE_FN Part part_of(const Place& row, int64_t block, int64_t n) {
  const int64_t from = block * kBlock, left = n - from;
  return {row, from, static_cast<int32_t>(left < kBlock ? left : kBlock)};
}

// sums[row][block]: a warp for each.
template <class S, class A>
__global__ void __launch_bounds__(kLanes* kWarps) reduce_blocks(const __grid_constant__ Job job, A* sums) {
  const int64_t count = blocks_of(job.g.n), tasks = job.g.rows * count;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t task = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; task < tasks; task += step) {
    const int64_t row = task / count;
    A p[kParams];
    load_numbers<S::kP>(job, row, p);
    const A s = block_sum<S>(job, part_of(place_of(job.g.kept, row), task - row * count, job.g.n), p);
    if (threadIdx.x == 0) sums[task] = s;
  }
}

// The same where rows lie side by side: 32 rows and one block at a time. Warps go across the rows, each with four lanes
// of DSUM-1; for the fold, a warp has the lanes of a row.
template <class S, class A, bool Barrier = true>
__global__ void __launch_bounds__(kLanes* kColumnWarps) reduce_columns(const __grid_constant__ Job job, A* sums) {
  using C = typename S::Combine;
  __shared__ A lanes[kLanes][kLanes + 1];
  const int64_t count = blocks_of(job.g.n), tasks = (job.g.rows + kLanes - 1) / kLanes * count;
  const int32_t x = static_cast<int32_t>(threadIdx.x), y = static_cast<int32_t>(threadIdx.y);
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int64_t first = task / count * kLanes, block = task % count, row = first + x;
    if (row < job.g.rows) {
      A p[kParams];
      load_numbers<S::kP>(job, row, p);
      const Part part = part_of(place_of(job.g.kept, row), block, job.g.n);
      for (int32_t lane = y; lane < kLanes; lane += kColumnWarps) lanes[lane][x] = lane_sum<S>(job, part, lane, p);
    }
    if (Barrier) __syncthreads();
    for (int32_t column = y; column < kLanes && first + column < job.g.rows; column += kColumnWarps) {
      const A s = fold_warp<C>(lanes[x][column]);
      if (x == 0) sums[(first + column) * count + block] = s;
    }
    if (Barrier) __syncthreads();
  }
}

// Partial sums that lie side by side, as rows.
template <class C>
struct Upper : Step<true, false, 0, 0, C> {
  template <class V>
  static DETPROBE_FN V apply(V s, V x, V, const V*, const V*) {
    return C::combine(s, x);
  }
};

enum class Fold : int32_t { plus, number, largest, smallest };
template <class C>
struct FoldOf;
template <>
struct FoldOf<Plus> {
  static constexpr Fold value = Fold::plus;
};
template <>
struct FoldOf<Largest> {
  static constexpr Fold value = Fold::number;
};
template <>
struct FoldOf<Extreme<1>> {
  static constexpr Fold value = Fold::largest;
};
template <>
struct FoldOf<Extreme<-1>> {
  static constexpr Fold value = Fold::smallest;
};

// BLK of at most 1024 partial sums, by one warp; all lanes get the result.
template <class C, class A>
DETPROBE_FN A top_sum(const A* sums, int64_t count) {
  A s = C::template identity<A>();
  for (int64_t i = threadIdx.x; i < count; i += kLanes) s = C::combine(s, sums[i]);
  return __shfl_sync(kAllLanes, fold_warp<C>(s), 0);
}

template <class O, class A, int... K>
DETPROBE_FN void finish_pass(int pass, A s, A n, A* p, std::integer_sequence<int, K...>) {
  ((K == pass ? O::template finish<K>(s, n, p) : void()), ...);
}

// What follows from the sum s of a pass, for one row; the numbers go where the job has put them.
template <class O, class A>
DETPROBE_FN void finish_row(const Job& job, int pass, int64_t row, A s) {
  A p[kParams] = {};
  load_numbers<O::kIn>(job, row, p);
  DETPROBE_UNROLL
  for (int k = 0; k < kParams; ++k) {
    if (O::kOut >> k & 1 && pass > 0) p[k] = static_cast<const A*>(job.p_out[k])[row];
  }
  finish_pass<O>(pass, s, static_cast<A>(job.g.n), p, std::make_integer_sequence<int, O::Passes::kSize>{});
  DETPROBE_UNROLL
  for (int k = 0; k < kParams; ++k) {
    if (O::kOut >> k & 1) static_cast<A*>(job.p_out[k])[row] = canonical(p[k]);
  }
  if constexpr (!O::kMap) {
    if (pass == O::Passes::kSize - 1 && job.out) store_result(job, row, p[O::kResult]);
  }
}

// From sums[row][0 .. count - 1], count at most 1024, to the numbers of the rows: a warp for a row, or a thread if
// there is nothing to add. One kernel for all ops.
template <class A>
__global__ void __launch_bounds__(kLanes* kWarps)
    finish_rows(const __grid_constant__ Job job, int32_t pass, Fold fold, const A* sums, int64_t count) {
  const bool alone = count == 1;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y * (alone ? kLanes : 1);
  int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (alone) row = row * kLanes + threadIdx.x;
  for (; row < job.g.rows; row += step) {
    A s;
    if (alone) {
      s = sums[row];
    } else if constexpr (std::is_same_v<A, uint64_t>) {
      s = top_sum<Plus>(sums + row * count, count);
    } else {
      const A* mine = sums + row * count;
      switch (fold) {
        case Fold::plus: s = top_sum<Plus>(mine, count); break;
        case Fold::number: s = top_sum<Largest>(mine, count); break;
        case Fold::largest: s = top_sum<Extreme<1>>(mine, count); break;
        default: s = top_sum<Extreme<-1>>(mine, count);
      }
    }
    if (!alone && threadIdx.x > 0) continue;
    switch (job.op) {
#define DETPROBE_OP_ALL(name) \
  case Op::name: finish_row<name>(job, pass, row, s); break;
#define DETPROBE_OP(name)                                                           \
  case Op::name:                                                                    \
    if constexpr (std::is_floating_point_v<A>) finish_row<name>(job, pass, row, s); \
    break;
#include "../arith/op_names.h"
#undef DETPROBE_OP
    }
  }
}

// The result for every element of a part of a row.
template <class O, class A, int Step>
DETPROBE_FN void map_part(const Job& job, const Part& part, int32_t first, const A* p) {
  sweep<A, Step>(job.g, part, first, [&](const auto& c, int32_t i) {
    const Elements<O, A, Step> elements(job, c, part.from + i);
    A out[kChunk<A>];
    DETPROBE_UNROLL
    for (int u = 0; u < kChunk<A>; ++u) {
      out[u] = elements.at(u, [&](A x, A y, const A* e) { return O::map(x, y, e, p); });
    }
    c.store(job.type, job.out, c.at.a, c.step.a, out);
  });
}

// A warp for each row and block.
template <class O, class A>
__global__ void __launch_bounds__(kLanes* kWarps) map_rows(const __grid_constant__ Job job) {
  const int64_t count = blocks_of(job.g.n), tasks = job.g.rows * count;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t task = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; task < tasks; task += step) {
    const int64_t row = task / count;
    A p[kParams];
    load_numbers<O::kP>(job, row, p);
    const Part part = part_of(place_of(job.g.kept, row), task - row * count, job.g.n);
    map_part<O, A, kLanes>(job, part, static_cast<int32_t>(threadIdx.x), p);
  }
}

// The same where rows lie side by side: 32 rows and one block at a time.
template <class O, class A>
__global__ void __launch_bounds__(kLanes* kColumnWarps) map_columns(const __grid_constant__ Job job) {
  const int64_t count = blocks_of(job.g.n), tasks = (job.g.rows + kLanes - 1) / kLanes * count;
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int64_t row = task / count * kLanes + threadIdx.x;
    if (row >= job.g.rows) continue;
    A p[kParams];
    load_numbers<O::kP>(job, row, p);
    const Part part = part_of(place_of(job.g.kept, row), task % count, job.g.n);
    map_part<O, A, kColumnWarps>(job, part, static_cast<int32_t>(threadIdx.y), p);
  }
}

// Passes, numbers and map in one kernel. Rows of one block: a warp has a row to itself, and meets no other. Longer
// rows, of at most 1024 blocks: the warps of a CUDA block share one.
template <class O, class A>
class FusedRow {
  using Passes = typename O::Passes;
  static constexpr int kPasses = Passes::kSize;

 public:
  DETPROBE_FN FusedRow(const Job& job, int64_t row, A* partials, A* numbers)
      : job_(job), row_(row), place_(place_of(job.g.kept, row)), partials_(partials), numbers_(numbers) {
    load_numbers<O::kIn>(job, row, p_);
  }
  DETPROBE_FN void run() {
    passes(std::make_integer_sequence<int, kPasses>{});
    const bool first = threadIdx.x == 0 && (threadIdx.y == 0 || !shared());
    DETPROBE_UNROLL
    for (int k = 0; k < kParams; ++k) {
      if (O::kOut >> k & 1 && first && job_.p_out[k]) static_cast<A*>(job_.p_out[k])[row_] = canonical(p_[k]);
    }
    if constexpr (!O::kMap) {
      if (first && job_.out) store_result(job_, row_, p_[O::kResult]);
    } else {
      const int64_t count = blocks_of(job_.g.n);
      for (int64_t b = shared() ? threadIdx.y : 0; b < count; b += blockDim.y) {
        map_part<O, A, kLanes>(job_, part_of(place_, b, job_.g.n), static_cast<int32_t>(threadIdx.x), p_);
      }
    }
  }

 private:
  DETPROBE_FN bool shared() const { return job_.g.n > kBlock; }

  template <int... K>
  DETPROBE_FN void passes(std::integer_sequence<int, K...>) {
    (pass<K>(), ...);
  }
  template <int K>
  DETPROBE_FN void pass() {
    using S = typename Passes::template At<K>;
    using C = typename S::Combine;
    const A n = static_cast<A>(job_.g.n);
    if (!shared()) {
      A s = C::template empty<A>();
      if (job_.g.n > 0) s = block_sum<S>(job_, part_of(place_, 0, job_.g.n), p_);
      O::template finish<K>(__shfl_sync(kAllLanes, s, 0), n, p_);
      return;
    }
    const int64_t count = blocks_of(job_.g.n);
    for (int64_t b = threadIdx.y; b < count; b += blockDim.y) {
      const A s = block_sum<S>(job_, part_of(place_, b, job_.g.n), p_);
      if (threadIdx.x == 0) partials_[b] = s;
    }
    __syncthreads();
    if (threadIdx.y == 0) {
      O::template finish<K>(top_sum<C>(partials_, count), n, p_);
      DETPROBE_UNROLL
      for (int k = 0; k < kParams; ++k) {
        if (O::kOut >> k & 1 && threadIdx.x == 0) numbers_[k] = p_[k];
      }
    }
    __syncthreads();
    DETPROBE_UNROLL
    for (int k = 0; k < kParams; ++k) {
      if (O::kOut >> k & 1) p_[k] = numbers_[k];
    }
  }

  const Job& job_;
  int64_t row_;
  Place place_;
  A* partials_;
  A* numbers_;
  A p_[kParams] = {};
};

template <class O, class A>
__global__ void __launch_bounds__(kLanes* kWarpsOfRow) fused_rows(const __grid_constant__ Job job) {
  __shared__ A partials[kBlock];
  __shared__ A numbers[kParams];
  const bool shared = job.g.n > kBlock;
  const int64_t each = shared ? 1 : blockDim.y, step = gridDim.x * each;
  for (int64_t row = blockIdx.x * each + (shared ? 0 : threadIdx.y); row < job.g.rows; row += step) {
    FusedRow<O, A>(job, row, partials, numbers).run();
  }
}

}  // namespace detprobe::cuda
