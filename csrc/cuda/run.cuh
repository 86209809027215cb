// The host's part of the reductions: workspace, grids and the sequence of kernels, for nvcc and the emulator alike.
//
// Three ways, and the bits are the same: one kernel for an op (`fused_rows`); or pass by pass, a warp for every block
// of every row; or that for rows that lie side by side. Nothing is allocated and nothing waits, so a call can be
// captured into a graph.
#pragma once

#include "reduce.cuh"
#include "scan.cuh"

namespace detprobe::cuda {

// When one kernel does it all: the rows have few blocks each, or are many. The bits do not depend on it.
struct Limits {
  int64_t few_blocks = 16;
  int64_t many_rows = 64;
};

// Hands out parts of a workspace, or with none counts how long it has to be.
class Room {
 public:
  explicit Room(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class A>
  A* take(int64_t count) {
    char* at = memory_ ? memory_ + bytes_ : nullptr;
    bytes_ += (count * static_cast<int64_t>(sizeof(A)) + 255) / 256 * 256;
    return reinterpret_cast<A*>(at);
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* memory_;
  int64_t bytes_ = 0;
};

// Warps of a block that have tasks of their own: few tasks are spread over many blocks.
inline uint32_t warps_for(int64_t tasks, uint32_t most) {
  const int64_t share = tasks / 256;
  return static_cast<uint32_t>(share < 1 ? 1 : (share > most ? most : share));
}

template <class A>
constexpr Type type_of_acc = std::is_same_v<A, float> ? Type::f32 : (std::is_same_v<A, double> ? Type::f64 : Type::i64);

template <class O, class A>
class Run {
  using Passes = typename O::Passes;
  static constexpr int kPasses = Passes::kSize;

 public:
  Run(const Job& job, const Limits& limits)
      : job_(job), stream_(static_cast<Stream>(job.stream)), count_(blocks_of(job.g.n)), room_(job.workspace) {
    const bool few = count_ <= limits.few_blocks || (count_ <= kBlock && job.g.rows >= limits.many_rows);
    fused_ = job.g.n == 0 || (kPasses > 0 && !job.g.down() && few);
    if (fused_ || kPasses == 0) return;
    for (int k = 0; k < kParams; ++k) {
      if (O::kOut >> k & 1 && !job_.p_out[k]) job_.p_out[k] = room_.template take<A>(job.g.rows);
    }
    for (int64_t count = count_;; count = blocks_of(count)) {
      sums_[levels_++] = room_.template take<A>(job.g.rows * count);
      if (count <= kBlock) break;
    }
  }
  int64_t workspace() const { return room_.bytes(); }

  void run() {
    if (job_.g.rows == 0) return;
    if (fused_) return fused();
    passes(std::make_integer_sequence<int, kPasses>{});
    if constexpr (O::kMap) {
      if (job_.g.down() || job_.g.n == 1) {  // a warp would have one element
        launch(column_grid(), dim3(kLanes, kColumnWarps), stream_, map_columns<O, A>, job_);
      } else {
        const int64_t tasks = job_.g.rows * count_;
        const uint32_t warps = warps_for(tasks, kWarps);
        launch(dim3(blocks_for(tasks, warps)), dim3(kLanes, warps), stream_, map_rows<O, A>, job_);
      }
    }
  }

 private:
  void fused() {
    if constexpr (kPasses > 0) {
      const bool shared = count_ > 1;
      const uint32_t warps =
          shared ? static_cast<uint32_t>(count_ < kWarpsOfRow ? count_ : kWarpsOfRow) : warps_for(job_.g.rows, kWarps);
      launch(dim3(blocks_for(job_.g.rows, shared ? 1 : warps)), dim3(kLanes, warps), stream_, fused_rows<O, A>, job_);
    }
  }

  template <int... K>
  void passes(std::integer_sequence<int, K...>) {
    (pass<K>(), ...);
  }

  template <int K>
  void pass() {
    using S = typename Passes::template At<K>;
    using C = typename S::Combine;
    if (job_.g.down()) {
      launch(column_grid(), dim3(kLanes, kColumnWarps), stream_, reduce_columns<S, A>, job_, sums_[0]);
    } else {
      reduce<S>(job_, sums_[0]);
    }
    int64_t count = count_;
    for (int level = 1; level < levels_; ++level, count = blocks_of(count)) {
      Job upper;
      upper.type = type_of_acc<A>;
      upper.x = sums_[level - 1];
      upper.g.rows = job_.g.rows;
      upper.g.n = count;
      upper.g.kept = run_of(job_.g.rows);
      upper.g.kept.a[0] = upper.g.kept.b[0] = count;
      upper.g.reduced = run_of(count);
      reduce<Upper<C>>(upper, sums_[level]);
    }
    const int64_t work = count == 1 ? (job_.g.rows + kLanes - 1) / kLanes : job_.g.rows;
    const uint32_t warps = warps_for(work, kWarps);
    launch(dim3(blocks_for(work, warps)), dim3(kLanes, warps), stream_, finish_rows<A>, job_, K, FoldOf<C>::value,
           static_cast<const A*>(sums_[levels_ - 1]), count);
    for (int k = 0; k < kParams; ++k) {
      if (O::kOut >> k & 1) job_.p[k] = job_.p_out[k];
    }
  }

  template <class S>
  void reduce(const Job& job, A* sums) {
    const int64_t tasks = job.g.rows * blocks_of(job.g.n);
    const uint32_t warps = warps_for(tasks, kWarps);
    launch(dim3(blocks_for(tasks, warps)), dim3(kLanes, warps), stream_, reduce_blocks<S, A>, job, sums);
  }

  dim3 column_grid() const { return dim3(blocks_for((job_.g.rows + kLanes - 1) / kLanes * count_, 1)); }

  Job job_;
  Stream stream_;
  int64_t count_;
  Room room_;
  bool fused_ = false;
  A* sums_[8] = {};  // partial sums, level by level
  int levels_ = 0;
};

// f(Run) of the op of a job.
template <class A, class F>
int64_t with_run(const Job& job, const Limits& limits, const F& f) {
  switch (job.op) {
#define DETPROBE_OP_ALL(name) \
  case Op::name: return f(Run<name, A>(job, limits));
#define DETPROBE_OP(name)                                                           \
  case Op::name:                                                                    \
    if constexpr (std::is_floating_point_v<A>) return f(Run<name, A>(job, limits)); \
    break;
#include "../arith/op_names.h"
#undef DETPROBE_OP
  }
  return 0;
}

template <class A>
void run(const Job& job, const Limits& limits) {
  with_run<A>(job, limits, [](auto run) {
    run.run();
    return 0;
  });
}
template <class A>
int64_t run_workspace(const Job& job, const Limits& limits) {
  Job counted = job;
  counted.workspace = nullptr;
  return with_run<A>(counted, limits, [](const auto& run) { return run.workspace(); });
}

template <class A>
void scan(const ScanJob& job) {
  const Geometry& g = job.g;
  if (g.rows == 0 || g.n == 0) return;
  const Stream stream = static_cast<Stream>(job.stream);
  const auto start = [&](const ScanJob& level, A* last, const A* before) {
    const int64_t tasks = level.g.rows * blocks_of(level.g.n);
    const ScanLevel<A> argument{level, last, before};
    if (level.g.down()) {
      launch(dim3(blocks_for(tasks, kLanes * kScanWarps)), dim3(kLanes * kScanWarps), stream, scan_columns<A>,
             argument);
    } else {
      const uint32_t warps = warps_for(tasks, kScanWarps);
      launch(dim3(blocks_for(tasks, warps)), dim3(kLanes, warps), stream, scan_rows<A>, argument);
    }
  };
  Room room(job.workspace);
  ScanJob levels[8] = {job};
  int top = 0;
  for (; levels[top].g.n > kBlock; ++top) {
    const int64_t n = blocks_of(levels[top].g.n);
    ScanJob& next = levels[top + 1];
    next.type = type_of_acc<A>;
    next.g.rows = g.rows;
    next.g.n = n;
    next.g.kept = run_of(g.rows);
    next.g.kept.a[0] = next.g.kept.b[0] = n;
    next.g.reduced = run_of(n);
    next.out = room.take<A>(g.rows * n);
    next.x = next.out;
    start(levels[top], static_cast<A*>(next.out), nullptr);
  }
  for (int level = top; level >= 0; --level) {
    start(levels[level], nullptr, level < top ? static_cast<const A*>(levels[level + 1].out) : nullptr);
  }
}

template <class A>
int64_t scan_workspace(const ScanJob& job) {
  Room room(nullptr);
  for (int64_t n = job.g.n; n > kBlock;) {
    n = blocks_of(n);
    room.take<A>(job.g.rows * n);
  }
  return room.bytes();
}

// Everything above for one acc; `prefix`: extern, where another file compiles it.
#define DETPROBE_KERNELS(prefix, A)                                    \
  prefix template void run<A>(const Job&, const Limits&);              \
  prefix template int64_t run_workspace<A>(const Job&, const Limits&); \
  prefix template void scan<A>(const ScanJob&);                        \
  prefix template int64_t scan_workspace<A>(const ScanJob&);

}  // namespace detprobe::cuda
