// DSEG-1 as CUDA kernels, on raw pointers: Z, amax and amin of segments, whose records lie in the order of a plan.
//
// Computes: SegmentJob of arith/segments.h.
// Types, Level, Domain, Error bound, Source: the scatter family in csrc/README.md.
// Order: DSEG-1. A thread folds one node of the tree of Z in one column, left to right: a chunk of records in the first
//        kernel, then, a kernel for each level, up to 256 partials. So how long a thread works is bounded, whatever the
//        segments are, and no atomics are needed.
//
// Offsets are on the device, and the host does not wait for them: it counts *places*. Node c of a level stands for
// 256^k slots from offsets[s] + c * 256^k on, and is kept at the place of its first slot divided by 256^k. Such nodes
// with c >= 1 have places of their own: within a row they begin 256^k slots apart, and in a later row at least 256^k
// behind the row's begin. So have nodes with c = 0 of rows of more than 256^k records, among themselves. Hence two
// arrays for a level, each of slots / 256^k places; and whoever has a place finds its row by one search in the offsets.
#pragma once

#include "../arith/fold.h"
#include "run.cuh"

namespace detprobe::cuda {

using Rule = detprobe::Fold;

constexpr int kChunkBits = 8;  // a chunk has 2^8 records
constexpr uint32_t kFoldWarps = 8;
constexpr int64_t kWideFrom = 1 << 17;  // threads, from which on each may take several columns: fewer would idle
template <int V>
constexpr int kAhead = V == 1 ? 8 : 4;  // records of a thread whose loads are under way at once

static_assert(detprobe::kChunk == 1 << kChunkBits, "chunks are counted by shifts");

// Elements that are loaded and stored in one go.
template <class T, int V>
struct alignas(V * sizeof(T)) Pack {
  T v[V];
};

// The partials of one level, [batch, places, columns]: of nodes that begin their row, and of all others.
template <class A>
struct Partials {
  A* first = nullptr;
  A* later = nullptr;
  int64_t places = 0;

  DETPROBE_FN int64_t at(const SegmentJob& job, int64_t batch, int64_t place, int64_t column) const {
    return (batch * places + place) * job.columns + column;
  }
};

struct Node {
  int64_t row, head, begin, end;  // slots: of the row, from where the node begins, and behind the row
};

// The node with c >= 1 at a place of a level of 2^shift slots. Its row also holds slot place * 2^shift.
DETPROBE_FN bool find_node(const SegmentJob& job, int64_t place, int shift, Node& node) {
  const int64_t slot = place << shift;
  int64_t low = 0, high = job.rows;  // rows that begin at or before `slot`
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (job.offsets[middle] <= slot)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0) return false;
  const int64_t head = job.offsets[low - 1];
  node = {low - 1, head, slot + (head & ((int64_t{1} << shift) - 1)), job.offsets[low]};
  return place > head >> shift && node.begin < node.end;
}

// The next records of a chunk, from slot p on: how many they are, and their numbers n. A loop for each kind of load,
// here and below, so that no load waits for the one before it.
template <int V>
DETPROBE_FN int32_t live_at(int64_t p, int64_t end) {
  return static_cast<int32_t>(end - p < kAhead<V> ? end - p : kAhead<V>);
}
template <int V>
DETPROBE_FN void records_at(const SegmentJob& job, int64_t p, int32_t live, int64_t* n) {
  DETPROBE_UNROLL
  for (int u = 0; u < kAhead<V>; ++u) n[u] = p + u;
  if (!job.order) return;
  DETPROBE_UNROLL
  for (int u = 0; u < kAhead<V>; ++u) n[u] = u < live ? job.order[p + u] : 0;
}

// Where they lie in the source.
template <int V>
DETPROBE_FN void places_of(const SegmentJob& job, int64_t p, int32_t live, int64_t* at) {
  records_at<V>(job, p, live, at);
  if (job.from) {
    DETPROBE_UNROLL
    for (int u = 0; u < kAhead<V>; ++u) at[u] = u < live ? job.from[at[u]] : 0;
  }
  DETPROBE_UNROLL
  for (int u = 0; u < kAhead<V>; ++u) at[u] *= job.source.row_stride;
}

// What they are multiplied with.
template <class A, int V>
DETPROBE_FN void factors_of(const SegmentJob& job, int64_t p, int32_t live, A* by) {
  DETPROBE_UNROLL
  for (int u = 0; u < kAhead<V>; ++u) by[u] = static_cast<A>(job.alpha);
  if (!job.weight) return;
  int64_t n[kAhead<V>];
  records_at<V>(job, p, live, n);
  DETPROBE_UNROLL
  for (int u = 0; u < kAhead<V>; ++u) {
    if (u < live) by[u] = static_cast<const A*>(job.weight)[n[u]];
  }
}

// Folds the records of slots p .. end - 1 into s; `fresh`: the first of them is the start. The places of the next
// records are looked up while the values of these are under way.
template <Rule F, class T, int V>
DETPROBE_FN void fold_slots(const SegmentJob& job, const T* source, int64_t p, int64_t end, bool fresh, acc_t<T>* s) {
  const bool multiplied = job.weight || job.scaled;
  int32_t live = live_at<V>(p, end);
  int64_t at[kAhead<V>];
  places_of<V>(job, p, live, at);
  while (live > 0) {
    acc_t<T> by[kAhead<V>];
    factors_of<acc_t<T>, V>(job, p, live, by);
    Pack<T, V> z[kAhead<V>];
    DETPROBE_UNROLL
    for (int u = 0; u < kAhead<V>; ++u) {
      if (u < live) z[u] = *reinterpret_cast<const Pack<T, V>*>(source + at[u]);
    }
    const int64_t next = p + kAhead<V>;
    const int32_t then = live_at<V>(next, end);
    places_of<V>(job, next, then, at);
    DETPROBE_UNROLL
    for (int u = 0; u < kAhead<V>; ++u) {
      DETPROBE_UNROLL
      for (int v = 0; v < V; ++v) {
        const acc_t<T> as_is = to_acc(z[u].v[v]), value = multiplied ? mul(by[u], as_is) : as_is;
        if (u < live) s[v] = u == 0 && fresh ? value : folded<F>(s[v], value);
      }
    }
    fresh = false;
    p = next;
    live = then;
  }
}

// Z, divided or not, into the destination.
template <class T, int V>
DETPROBE_FN void store_row(const SegmentJob& job, const Node& node, T* to, const acc_t<T>* z) {
  Pack<T, V> result;
  DETPROBE_UNROLL
  for (int v = 0; v < V; ++v) {
    result.v[v] = from_acc<T>(job.divided ? divided(z[v], node.end - node.head, job.start) : z[v]);
  }
  *reinterpret_cast<Pack<T, V>*>(to) = result;
}

template <class T>
DETPROBE_FN T* row_of(const SegmentJob& job, int64_t batch, int64_t row, int64_t column) {
  return static_cast<T*>(job.out) + (batch * job.rows + row) * job.columns + column;
}

// f(batch, task, column) for every batch, task and column, or every V-th one: neighbours have neighbouring columns.
template <int V, class F>
DETPROBE_FN void for_tasks(const SegmentJob& job, int64_t tasks, const F& f) {
  const int64_t wide = job.columns / V, count = job.batch * tasks * wide;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    int64_t column, task;
    const int64_t batch = divide_by(divide_by(i, wide, column), tasks, task);
    f(batch, task, column * V);
  }
}

// Chunks of records: first those with c >= 1, which are long, place by place; then the first ones, row by row. Rows of
// one chunk are finished.
template <class T, Rule F, int V>
__global__ void __launch_bounds__(kLanes* kFoldWarps, sizeof(acc_t<T>) == 4 ? 3 : 2)
    fold_records(const __grid_constant__ SegmentJob job, Partials<acc_t<T>> parts) {
  const int64_t later = parts.places ? parts.places - 1 : 0;
  for_tasks<V>(job, later + job.rows, [&](int64_t batch, int64_t task, int64_t column) {
    const bool is_later = task < later;
    Node node;
    if (is_later) {
      if (!find_node(job, task + 1, kChunkBits, node)) return;
    } else {
      const int64_t row = task - later, head = job.offsets[row];
      node = {row, head, head, job.offsets[row + 1]};
      if (node.begin >= node.end) return;
    }
    T* to = row_of<T>(job, batch, node.row, column);
    acc_t<T> s[V];
    const bool fresh = is_later || job.start == Start::first;
    if (!fresh && job.start == Start::given) {
      const Pack<T, V> given = *reinterpret_cast<const Pack<T, V>*>(to);
      DETPROBE_UNROLL
      for (int v = 0; v < V; ++v) s[v] = to_acc(given.v[v]);
    } else {
      DETPROBE_UNROLL
      for (int v = 0; v < V; ++v) s[v] = 0;
    }
    const T* source =
        static_cast<const T*>(job.source.data) + batch * job.source.batch_stride + column * job.source.column_stride;
    const int64_t full = node.begin + detprobe::kChunk;
    fold_slots<F, T, V>(job, source, node.begin, full < node.end ? full : node.end, fresh, s);
    if (!is_later && node.end <= full) return store_row<T, V>(job, node, to, s);
    acc_t<T>* kept = (is_later ? parts.later : parts.first) + parts.at(job, batch, node.begin >> kChunkBits, column);
    DETPROBE_UNROLL
    for (int v = 0; v < V; ++v) kept[v] = s[v];
  });
}

// A level of partials, each of 2^shift slots, into nodes of 256 times as many: those with c >= 1, then the first ones
// of rows that have more than one partial. A row that has no other node is finished.
template <class T, Rule F>
__global__ void __launch_bounds__(kLanes* kFoldWarps)
    fold_partials(const __grid_constant__ SegmentJob job, Partials<acc_t<T>> lower, Partials<acc_t<T>> upper,
                  int shift) {
  const int64_t later = upper.places ? upper.places - 1 : 0;
  for_tasks<1>(job, later + lower.places - 1, [&](int64_t batch, int64_t task, int64_t column) {
    const bool is_later = task < later;
    Node node;
    if (is_later) {
      if (!find_node(job, task + 1, shift + kChunkBits, node)) return;
    } else {
      const int64_t place = task - later + 1;
      if (!find_node(job, place, shift, node) || place != (node.head >> shift) + 1) return;
      node.begin = node.head;
    }
    const int64_t left = ((node.end - node.begin - 1) >> shift) + 1;
    const int32_t count = static_cast<int32_t>(left < detprobe::kChunk ? left : detprobe::kChunk);
    const int64_t start = node.begin >> shift;
    const acc_t<T>* y = lower.later + lower.at(job, batch, start, column);
    acc_t<T> s = is_later ? *y : lower.first[lower.at(job, batch, start, column)];
    for (int32_t i = 1; i < count; i += kAhead<1>) {
      acc_t<T> z[kAhead<1>];
      DETPROBE_UNROLL
      for (int u = 0; u < kAhead<1>; ++u) {
        if (i + u < count) z[u] = y[(i + u) * job.columns];
      }
      DETPROBE_UNROLL
      for (int u = 0; u < kAhead<1>; ++u) {
        if (i + u < count) s = folded<F>(s, z[u]);
      }
    }
    if (!is_later && left <= detprobe::kChunk) {
      return store_row<T, 1>(job, node, row_of<T>(job, batch, node.row, column), &s);
    }
    (is_later ? upper.later : upper.first)[upper.at(job, batch, start >> kChunkBits, column)] = s;
  });
}

// The host's part: workspace, grids and the sequence of kernels.
template <class A>
struct Levels {
  Partials<A> of[8];  // of 256, 256^2, .. slots, as long as a row can have more
  int count = 0;
  int64_t bytes = 0;

  explicit Levels(const SegmentJob& job) {
    Room room(job.workspace);
    for (int64_t last = (job.slots - 1) >> kChunkBits; last > 0; last >>= kChunkBits) {
      Partials<A>& level = of[count++];
      level.places = last + 1;
      level.first = room.take<A>(job.batch * level.places * job.columns);
      level.later = room.take<A>(job.batch * level.places * job.columns);
    }
    bytes = room.bytes();
  }
};

inline bool is_empty(const SegmentJob& job) {
  return job.batch <= 0 || job.rows <= 0 || job.columns <= 0 || job.slots <= 0;
}

// Whether a thread can take V columns at once.
template <class T, int V>
bool is_aligned(const SegmentJob& job) {
  const auto whole = [](int64_t stride) { return stride % V == 0; };
  const uintptr_t places = reinterpret_cast<uintptr_t>(job.source.data) | reinterpret_cast<uintptr_t>(job.out);
  return whole(job.columns) && job.source.column_stride == 1 && whole(job.source.row_stride) &&
         whole(job.source.batch_stride) && places % (V * sizeof(T)) == 0;
}

template <class... Parameters, class... Arguments>
void launch_tasks(int64_t threads, const SegmentJob& job, void (*kernel)(Parameters...), Arguments... arguments) {
  const uint32_t block = kLanes * warps_for((threads + kLanes - 1) / kLanes, kFoldWarps);
  launch(dim3(blocks_for(threads, block)), dim3(block), static_cast<Stream>(job.stream), kernel, job, arguments...);
}

template <class T, Rule F>
void fold_as(const SegmentJob& job, int64_t wide_from) {
  constexpr int kWide = sizeof(T) == 8 ? 2 : 4;
  const Levels<acc_t<T>> levels(job);
  const int64_t lines = job.batch * (job.rows + levels.of[0].places);
  if (is_aligned<T, kWide>(job) && lines * (job.columns / kWide) >= wide_from) {
    launch_tasks(lines * (job.columns / kWide), job, fold_records<T, F, kWide>, levels.of[0]);
  } else {
    launch_tasks(lines * job.columns, job, fold_records<T, F, 1>, levels.of[0]);
  }
  for (int k = 0; k < levels.count; ++k) {
    const Partials<acc_t<T>> upper = k + 1 < levels.count ? levels.of[k + 1] : Partials<acc_t<T>>{};
    const int64_t threads = job.batch * (upper.places + levels.of[k].places - 1) * job.columns;
    launch_tasks(threads, job, fold_partials<T, F>, levels.of[k], upper, (k + 1) * kChunkBits);
  }
}

template <class T>
void fold_type(const SegmentJob& job, int64_t wide_from) {
  switch (job.fold) {
    case Rule::sum: return fold_as<T, Rule::sum>(job, wide_from);
    case Rule::prod: return fold_as<T, Rule::prod>(job, wide_from);
    case Rule::amax: return fold_as<T, Rule::amax>(job, wide_from);
    case Rule::amin: return fold_as<T, Rule::amin>(job, wide_from);
  }
}

// `wide_from` changes no bit.
inline void fold(const SegmentJob& job, int64_t wide_from = kWideFrom) {
  if (is_empty(job)) return;
  switch (job.type) {
    case Type::f16: return fold_type<half_t>(job, wide_from);
    case Type::bf16: return fold_type<bfloat_t>(job, wide_from);
    case Type::f32: return fold_type<float>(job, wide_from);
    case Type::f64: return fold_type<double>(job, wide_from);
    default: return;
  }
}

// Bytes that fold needs, about 1/128 of what the records are in acc; aligned to acc.
inline int64_t fold_workspace(const SegmentJob& job) {
  if (is_empty(job)) return 0;
  SegmentJob counted = job;
  counted.workspace = nullptr;
  return job.type == Type::f64 ? Levels<double>(counted).bytes : Levels<float>(counted).bytes;
}

// Everything above for one type of elements; `prefix`: extern, where another file compiles it.
#define DETPROBE_SEGMENTS(prefix, T) prefix template void fold_type<T>(const SegmentJob&, int64_t);

}  // namespace detprobe::cuda
