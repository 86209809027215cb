// EXACT-1 as CUDA kernels, on raw pointers: sums of rows as real numbers, rounded once.
//
// Computes, Types, Level, Domain, Error bound: as csrc/cpu/exact.cpp.
// Order: none. A thread adds integers in a window of its own, in registers; windows are flushed into the digits of
// arith/exact.h by integer atomics, in shared and in global memory, whose order of arrival changes nothing.
//
// Short rows take a thread each, longer ones a warp. Long ones are cut into pieces, a block each; where a row is one
// piece, its block rounds, else the blocks add to the workspace, and a last kernel rounds.
#pragma once

#include "../arith/exact.h"
#include "../arith/geometry.h"
#include "../arith/job.h"
#include "device.h"

namespace detprobe {

constexpr uint32_t kExactBlock = 256;
constexpr uint32_t kExactWarps = kExactBlock / 32;
constexpr int32_t kExactBatch = 8;                           // elements that a thread loads before it adds them
constexpr int64_t kExactThread = 48;                         // elements of a row that one thread sums
constexpr int64_t kExactWarp = 2048;                         // and that a warp does
constexpr int64_t kExactLeast = 4096, kExactMost = 1 << 16;  // elements of a piece
constexpr int64_t kExactBlocks = 2048;  // that pieces are made for, where there are enough elements

// What a thread has added up since the last flush, in units of 2^base. A window takes shifts from base to base + kSpan
// and 256 elements: 24 + 30 + 8 bits in one word, 53 + 64 + 8 in two.
template <class A>
struct Window;
template <>
struct Window<float> {
  static constexpr int32_t kSpan = 30, kSlack = 6;
  int64_t sum = 0;
  int32_t base = 0;
  DETPROBE_HD void add(int32_t m, int32_t by) { sum += static_cast<int64_t>(m) * (static_cast<int32_t>(1) << by); }
  template <class Sink>
  __device__ void flush(Sink& sink) {
    if (sum != 0) sink.add_units(sum, base);
    sum = 0;
  }
};
template <>
struct Window<double> {
  static constexpr int32_t kSpan = 63, kSlack = 12;
  uint64_t low = 0, high = 0;
  int32_t base = 0;
  DETPROBE_HD void add(int64_t m, int32_t by) {
    const uint64_t l = static_cast<uint64_t>(m) << by;
    const int64_t h = by ? m >> (64 - by) : m >> 63;
    low += l;
    high += static_cast<uint64_t>(h) + (low < l);
  }
  template <class Sink>
  __device__ void flush(Sink& sink) {
    // The lower word goes in two halves: it is unsigned, and add_units takes signed numbers.
    if (low & 0xFFFFFFFFu) sink.add_units(static_cast<int64_t>(low & 0xFFFFFFFFu), base);
    if (low >> 32) sink.add_units(static_cast<int64_t>(low >> 32), base + 32);
    if (high != 0) sink.add_units(static_cast<int64_t>(high), base + 64);
    low = high = 0;
  }
};

// Digits in memory that several threads add to.
template <class A>
struct SharedDigits {
  int64_t* word;
  __device__ void add_word(int32_t at, int64_t v) {
    if (v != 0) atomicAdd(reinterpret_cast<Counter*>(word + at), static_cast<Counter>(v));
  }
  __device__ void add_units(int64_t v, int32_t shift) {
    const Addend a = addend(v, shift);
    for (int32_t i = 0; i < 3; ++i) add_word(a.at + i, a.part[i]);
  }
};

// Digits of one thread.
template <class A>
struct OwnDigits {
  ExactSum<A> sum;
  __device__ void add_word(int32_t at, int64_t v) { sum.word[at] += v; }
  __device__ void add_units(int64_t v, int32_t shift) { sum.add_units(v, shift); }
};

// Elements `from`, `from` + `step`, ... below `to` of the row at `base`, into the sink.
template <class T, bool kInner, class Sink>
__device__ void exact_add(const T* x, const Geometry& g, int64_t base, int64_t from, int64_t to, int64_t step,
                          Sink& sink) {
  using Sum = ExactSum<acc_t<T>>;
  using W = Window<acc_t<T>>;
  W window;
  window.base = -1;
  bool other = false;
  int32_t room = 256;
  for (int64_t i = from; i < to; i += step * kExactBatch) {
    T loaded[kExactBatch];
    DETPROBE_UNROLL
    for (int32_t k = 0; k < kExactBatch; ++k) {
      const int64_t at = i + k * step;
      int64_t a = at, b;
      if (!kInner && at < to) locate(g.reduced, at, a, b);
      loaded[k] = at < to ? x[base + a] : bits_as<T>(static_cast<typename FloatBits<T>::Word>(0));
      other |= at < to && !is_minus_zero(loaded[k]);
    }
    if (room < kExactBatch) {
      window.flush(sink);
      room = 256;
    }
    room -= kExactBatch;
    DETPROBE_UNROLL
    for (int32_t k = 0; k < kExactBatch; ++k) {
      const Parts<T> p = parts(loaded[k]);
      if (p.m == 0) continue;
      const int32_t by = p.shift - window.base;
      if (!p.special && window.base >= 0 && by >= 0 && by <= W::kSpan) {
        window.add(p.m, by);
      } else if (p.special) {
        sink.add_word(Sum::kind(loaded[k]), 1);
      } else if (window.base < 0 || by > W::kSpan) {
        // A larger one: the window moves up, with some bits to spare.
        window.flush(sink);
        const int32_t wanted = p.shift - (W::kSpan - W::kSlack);
        window.base = wanted > 0 ? wanted : 0;
        window.add(p.m, p.shift - window.base);
      } else {
        sink.add_units(p.m, p.shift);
      }
    }
  }
  window.flush(sink);
  if (other) sink.add_word(Sum::kOther, 1);
}

template <class T, bool kInner>
__global__ void __launch_bounds__(kExactBlock) exact_threads(const T* x, Geometry g, T* out) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kExactBlock;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kExactBlock + threadIdx.x; row < g.rows; row += stride) {
    int64_t base, b;
    locate(g.kept, row, base, b);
    OwnDigits<acc_t<T>> digits;
    exact_add<T, kInner>(x, g, base, 0, g.n, 1, digits);
    out[row] = round_to<T>(digits.sum, g.n);
  }
}

template <class T, bool kInner>
__global__ void __launch_bounds__(kExactBlock) exact_warps(const T* x, Geometry g, T* out) {
  using Sum = ExactSum<acc_t<T>>;
  __shared__ int64_t sets[kExactWarps][Sum::kWords];
  const int32_t warp = static_cast<int32_t>(threadIdx.x / 32), lane = static_cast<int32_t>(threadIdx.x % 32);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kExactWarps;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kExactWarps + warp; row < g.rows; row += stride) {
    for (int32_t i = lane; i < Sum::kWords; i += 32) sets[warp][i] = 0;
    __syncwarp();
    int64_t base, b;
    locate(g.kept, row, base, b);
    SharedDigits<acc_t<T>> digits{sets[warp]};
    exact_add<T, kInner>(x, g, base, lane, g.n, 32, digits);
    __syncwarp();
    if (lane == 0) out[row] = round_words<T>(sets[warp], g.n);
    __syncwarp();
  }
}

__global__ void __launch_bounds__(kExactBlock) exact_start(int64_t* words, int64_t n) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kExactBlock;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kExactBlock + threadIdx.x; i < n; i += stride) words[i] = 0;
}

// Block after block of the grid takes a piece of a row. `words` is null where a row is one piece.
template <class T, bool kInner>
__global__ void __launch_bounds__(kExactBlock)
    exact_pieces(const T* x, Geometry g, int64_t pieces, int64_t piece, int64_t* words, T* out) {
  using Sum = ExactSum<acc_t<T>>;
  // A set of digits for each warp: fewer threads meet at one.
  __shared__ int64_t sets[kExactWarps][Sum::kWords];
  __shared__ int64_t total[Sum::kWords];
  const uint32_t t = threadIdx.x;
  for (int64_t item = blockIdx.x; item < g.rows * pieces; item += gridDim.x) {
    for (uint32_t i = t; i < kExactWarps * Sum::kWords; i += kExactBlock) sets[i / Sum::kWords][i % Sum::kWords] = 0;
    __syncthreads();
    const int64_t row = item / pieces, begin = item % pieces * piece;
    const int64_t end = begin + piece < g.n ? begin + piece : g.n;
    int64_t base, b;
    locate(g.kept, row, base, b);
    SharedDigits<acc_t<T>> digits{sets[t / 32]};
    exact_add<T, kInner>(x, g, base, begin + t, end, kExactBlock, digits);
    __syncthreads();
    for (uint32_t i = t; i < static_cast<uint32_t>(Sum::kWords); i += kExactBlock) {
      int64_t sum = 0;
      for (uint32_t w = 0; w < kExactWarps; ++w) sum += sets[w][i];
      total[i] = sum;
    }
    __syncthreads();
    if (words == nullptr) {
      if (t == 0) out[row] = round_words<T>(total, g.n);
    } else {
      // Each word hands what is above 32 bits to the next, so that many pieces fit.
      SharedDigits<acc_t<T>> target{words + row * Sum::kWords};
      for (int32_t i = static_cast<int32_t>(t); i < Sum::kWords; i += kExactBlock) {
        int64_t v = total[i];
        if (i < Sum::kDigits - 1) v &= kDigitMask;
        if (i > 0 && i < Sum::kDigits) v += total[i - 1] >> 32;
        target.add_word(i, v);
      }
    }
    __syncthreads();
  }
}

template <class T>
__global__ void __launch_bounds__(kExactBlock) exact_finish(const int64_t* words, int64_t rows, int64_t n, T* out) {
  using Sum = ExactSum<acc_t<T>>;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kExactBlock;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kExactBlock + threadIdx.x; row < rows; row += stride) {
    Sum sum;
    for (int32_t i = 0; i < Sum::kWords; ++i) sum.word[i] = words[row * Sum::kWords + i];
    out[row] = round_to<T>(sum, n);
  }
}

// The host's part: how a row is cut, grids and sequence.
struct ExactPlan {
  int64_t team;           // threads of a row, or of a piece
  int64_t pieces, piece;  // of a row, and elements of one
};
inline ExactPlan exact_plan(const Geometry& g) {
  if (g.n <= kExactThread) return {1, 1, g.n};
  if (g.n <= kExactWarp) return {32, 1, g.n};
  const int64_t rows = g.rows > 0 ? g.rows : 1;
  const int64_t wanted = rows >= kExactBlocks ? 1 : (kExactBlocks + rows - 1) / rows;
  int64_t piece = (g.n + wanted - 1) / wanted;
  piece = piece < kExactLeast ? kExactLeast : (piece > kExactMost ? kExactMost : piece);
  return {kExactBlock, (g.n + piece - 1) / piece, piece};
}

// Bytes that run_exact_sum needs; aligned to 8.
inline int64_t exact_sum_workspace(Type type, const Geometry& g) {
  const ExactPlan plan = exact_plan(g);
  const int64_t words = type == Type::f64 ? ExactSum<double>::kWords : ExactSum<float>::kWords;
  return plan.pieces > 1 ? g.rows * words * static_cast<int64_t>(sizeof(int64_t)) : 0;
}

template <class T, bool kInner>
void run_exact_rows(const Geometry& g, const T* x, int64_t* words, T* out, Stream stream) {
  const ExactPlan plan = exact_plan(g);
  const dim3 block(kExactBlock);
  if (plan.team == 1) {
    launch(dim3(blocks_for(g.rows, kExactBlock)), block, stream, exact_threads<T, kInner>, x, g, out);
    return;
  }
  if (plan.team == 32) {
    launch(dim3(blocks_for(g.rows, kExactWarps)), block, stream, exact_warps<T, kInner>, x, g, out);
    return;
  }
  const int64_t items = g.rows * plan.pieces, count = g.rows * ExactSum<acc_t<T>>::kWords;
  if (plan.pieces == 1) words = nullptr;
  if (words != nullptr) launch(dim3(blocks_for(count, kExactBlock)), block, stream, exact_start, words, count);
  const dim3 grid(static_cast<uint32_t>(items < (1 << 16) ? items : 1 << 16));
  launch(grid, block, stream, exact_pieces<T, kInner>, x, g, plan.pieces, plan.piece, words, out);
  if (words != nullptr) {
    launch(dim3(blocks_for(g.rows, kExactBlock)), block, stream, exact_finish<T>, static_cast<const int64_t*>(words),
           g.rows, g.n, out);
  }
}

template <class T>
void run_exact_type(const Geometry& logical, const void* x, void* workspace, void* out, Stream stream) {
  const Geometry g = any_order(logical);
  const bool inner = g.reduced.dims == 0 || (g.reduced.dims == 1 && g.reduced.a[0] == 1);
  (inner ? run_exact_rows<T, true> : run_exact_rows<T, false>)(g, static_cast<const T*>(x),
                                                               static_cast<int64_t*>(workspace), static_cast<T*>(out),
                                                               stream);
}

// out[row], in the type of x, which is a float.
inline void run_exact_sum(Type type, const Geometry& g, const void* x, void* workspace, void* out, Stream stream) {
  if (g.rows == 0) return;
  switch (type) {
    case Type::f16: return run_exact_type<half_t>(g, x, workspace, out, stream);
    case Type::bf16: return run_exact_type<bfloat_t>(g, x, workspace, out, stream);
    case Type::f32: return run_exact_type<float>(g, x, workspace, out, stream);
    case Type::f64: return run_exact_type<double>(g, x, workspace, out, stream);
    default: return;
  }
}

}  // namespace detprobe
