// DSCAN-1 as CUDA kernels.
//
// Computes: prefix sums of rows.   Types, Level, Domain, Error bound: csrc/README.md.
// Order: DSCAN-1. First the last element of every tile, then their scan, then the tiles once more, increased by it:
//        what is kept between is one number of acc for a tile, and x is read twice. In place it works as well.
#pragma once

#include "access.cuh"

namespace detprobe::cuda {

constexpr uint32_t kScanWarps = 4;

// last[row][tile]: where the last elements of tiles go, else results are stored. before[row][tile]: what the tiles have
// grown to, or null.
template <class A>
struct ScanLevel {
  ScanJob job;
  A* last;
  const A* before;
};

DETPROBE_FN Part tile_of(const ScanJob& job, int64_t row, int64_t tile) {
  const int64_t from = tile * kBlock, left = job.g.n - from;
  return {place_of(job.g.kept, row), from, static_cast<int32_t>(left < kBlock ? left : kBlock), job.reverse};
}

// A warp for each tile; a lane has a strip.
template <class A>
__global__ void __launch_bounds__(kLanes* kScanWarps) scan_rows(const __grid_constant__ ScanLevel<A> level) {
  static_assert(kLanes == kStrip && kStrip * kStrip == kBlock, "a lane has a strip of a tile");
  __shared__ A room[kScanWarps][kStrip][kStrip + 1];
  const ScanJob& job = level.job;
  const int64_t tiles = blocks_of(job.g.n), tasks = job.g.rows * tiles;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  const int32_t lane = static_cast<int32_t>(threadIdx.x);
  auto& z = room[threadIdx.y];
  for (int64_t task = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; task < tasks; task += step) {
    const int64_t row = task / tiles, tile = task - row * tiles;
    const Part part = tile_of(job, row, tile);
    sweep<A, kLanes>(job.g, part, lane, [&](const auto& c, int32_t i) {
      A v[kChunk<A>];
      c.load_x(job.type, job.x, v);
      DETPROBE_UNROLL
      for (int u = 0; u < kChunk<A>; ++u) {
        if (u < c.live) z[i / kStrip + u][lane] = v[u];
      }
    });
    __syncwarp();
    const int32_t left = part.k - lane * kStrip, size = left < 0 ? 0 : (left < kStrip ? left : kStrip);
    A sum = size > 0 ? z[lane][0] : A{};
    for (int32_t i = 1; i < size; ++i) z[lane][i] = sum = add(sum, z[lane][i]);
    // E of the strip before; every lane goes through all of them.
    A e = __shfl_sync(kAllLanes, sum, 0), mine = e;
    for (int32_t s = 1; s < kStrip; ++s) {
      if (s == lane) mine = e;
      e = add(e, __shfl_sync(kAllLanes, sum, s));
    }
    for (int32_t i = 0; lane > 0 && i < size; ++i) z[lane][i] = add(mine, z[lane][i]);
    __syncwarp();
    if (level.last) {
      if (lane == 0) level.last[task] = z[(part.k - 1) / kStrip][(part.k - 1) % kStrip];
    } else {
      const bool later = tile > 0;
      const A offset = later ? level.before[task - 1] : A{};
      sweep<A, kLanes>(job.g, part, lane, [&](const auto& c, int32_t i) {
        A v[kChunk<A>];
        DETPROBE_UNROLL
        for (int u = 0; u < kChunk<A>; ++u) {
          const A q = u < c.live ? z[i / kStrip + u][lane] : A{};
          v[u] = later ? add(offset, q) : q;
        }
        c.store(job.type, job.out, c.at.b, c.step.b, v);
      });
    }
    __syncwarp();
  }
}

// The same where rows lie side by side: a thread for each row and tile, neighbours on neighbouring rows.
template <class A>
__global__ void __launch_bounds__(kLanes* kScanWarps) scan_columns(const __grid_constant__ ScanLevel<A> level) {
  const ScanJob& job = level.job;
  const int64_t tiles = blocks_of(job.g.n), tasks = job.g.rows * tiles;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t task = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; task < tasks; task += step) {
    const int64_t tile = task / job.g.rows, row = task - tile * job.g.rows;
    const Part part = tile_of(job, row, tile);
    const bool later = tile > 0 && !level.last;
    const A offset = later ? level.before[row * tiles + tile - 1] : A{};
    A p{}, e{}, q{};
    sweep<A, 1>(job.g, part, 0, [&](const auto& c, int32_t i) {
      A v[kChunk<A>];
      c.load_x(job.type, job.x, v);
      DETPROBE_UNROLL
      for (int u = 0; u < kChunk<A>; ++u) {
        if (u >= c.live) continue;
        p = (i + u) % kStrip == 0 ? v[u] : add(p, v[u]);
        q = i + u < kStrip ? p : add(e, p);
        if ((i + u) % kStrip == kStrip - 1) e = q;
        v[u] = later ? add(offset, q) : q;
      }
      if (!level.last) c.store(job.type, job.out, c.at.b, c.step.b, v);
    });
    if (level.last) level.last[row * tiles + tile] = q;
  }
}

}  // namespace detprobe::cuda
