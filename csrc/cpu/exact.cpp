// EXACT-1 on the CPU: rows, columns and threads.
//
// Computes:    the sum of each row as a real number, rounded once to the type of the row.
// Order:       none: integers are added, so no split over blocks, vectors or threads can be seen.
// Types:       f16, bf16, f32, f64.    Level: device_to_device.    Error bound: half an ULP, ties to even.
// Domain:      up to 2^62 elements a row. Any NaN, or infinities of both signs: NaN, the canonical one; infinities of
// one
//              sign: that infinity; else only the rounding can overflow. -0.0 only for a row of -0.0; +0.0 for none.
#include "exact.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <limits>
#include <memory>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "exact_row.h"
#include "kernels.h"

namespace detprobe {
namespace exact {
namespace baseline {
#define DETPROBE_EXACT_BYTES 16
#define DETPROBE_EXACT_AVX2 0
#include "exact_blocks.h"
#undef DETPROBE_EXACT_BYTES
#undef DETPROBE_EXACT_AVX2
}  // namespace baseline

#if defined(__x86_64__)
#define DETPROBE_EXACT_BYTES 32
#define DETPROBE_EXACT_AVX2 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
namespace avx2 {
#include "exact_blocks.h"
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace {

constexpr int64_t kGrain = 1 << 15;  // below as many elements, waking a thread costs more than it saves
constexpr int64_t kTile = 256;       // columns

template <class T>
const Blocks<T>& choose() {
  static const Blocks<T> chosen = [] {
#if defined(__x86_64__)
    // AVX-512 gains nothing on a stream, and takes the kernels of AVX2.
    if (std::strcmp(instruction_set().name, "baseline") != 0) return avx2::blocks<T>();
#endif
    return baseline::blocks<T>();
  }();
  return chosen;
}

template <class T>
class Rows {
 public:
  Rows(const Geometry& g, const T* x, T* out) : g_(g), x_(x), out_(out), blocks_(choose<T>()) {
    inner_ = g.reduced.dims == 0 || (g.reduced.dims == 1 && g.reduced.a[0] == 1);
    const int32_t last = g.kept.dims - 1;
    // Where rows lie side by side and their elements do not, a tile of neighbouring columns is summed at once.
    if (last >= 0 && g.kept.a[last] == 1 && !inner_ && g.kept.sizes[last] >= 4) {
      across_ = g.kept.sizes[last];
      width_ = std::min(kTile, across_);
    }
    in_line_ = (across_ + width_ - 1) / width_;
    tiles_ = g.rows / across_ * in_line_;
    const int64_t threads = at::get_num_threads();
    if (threads > 1 && tiles_ < 2 * threads) {
      const int64_t most = g.n * std::min(g.rows, width_) / kGrain;
      pieces_ = std::max<int64_t>(1, std::min((2 * threads + tiles_ - 1) / tiles_, most));
    }
    if (pieces_ > 1) parts_.resize(tiles_ * pieces_ * width_);
  }

  void run() {
    const int64_t items = tiles_ * pieces_, each = std::max<int64_t>(1, g_.rows * g_.n / items);
    at::parallel_for(0, items, std::max<int64_t>(1, kGrain / each), [&](int64_t begin, int64_t end) {
      const Environment environment;
      Worker worker(*this);
      if (items == g_.rows) {
        rows(worker, begin, end);
      } else {
        for (int64_t i = begin; i < end; ++i) item(worker, i / pieces_, i % pieces_);
      }
    });
    for (int64_t tile = 0; pieces_ > 1 && tile < tiles_; ++tile) {
      for (int64_t l = 0; l < columns_of(tile); ++l) {
        Sum sum;
        for (int64_t piece = 0; piece < pieces_; ++piece) {
          Sum& part = parts_[(tile * pieces_ + piece) * width_ + l];
          part.carry();
          sum.merge(part);
        }
        out_[first_of(tile) + l] = round_to<T>(sum, g_.n);
      }
    }
  }

 private:
  using Sum = ExactSum<acc_t<T>>;
  static constexpr int64_t kDown = 1024;  // elements of each column that are added at a time

  // What a thread has to itself.
  struct Worker {
    explicit Worker(const Rows& rows) : row(rows.blocks_) {
      if (!rows.inner_) buffer.reset(new T[std::max(kBlock, rows.blocks_.few * kDown)]);
      if (rows.width_ > 1 && rows.pieces_ == 1) sums.resize(rows.width_);
    }
    Row<T> row;
    std::unique_ptr<T[]> buffer;
    std::vector<Sum> sums;
  };

  int64_t first_of(int64_t tile) const { return tile / in_line_ * across_ + tile % in_line_ * width_; }
  int64_t columns_of(int64_t tile) const { return std::min(width_, across_ - tile % in_line_ * width_); }

  // Whole rows; the flag is read once for many short ones.
  void rows(Worker& worker, int64_t begin, int64_t end) const {
    constexpr int64_t kBatch = 64;
    int64_t offset[kBatch];
    double sums[kBatch];
    const int64_t batch = g_.n <= 512 ? kBatch : 1;
    Walk walk(g_.kept, begin);
    for (int64_t r = begin; r < end; r += batch) {
      const int64_t count = std::min(batch, end - r);
      for (int64_t k = 0; k < count; ++k, walk.go(1)) offset[k] = walk.a;
      if constexpr (kDoubles<T>) {
        Patience& patience = worker.row.batch;
        if (inner_ && count > 1 && patience.may_try() &&
            patience.says(blocks_.sum_rows(x_, offset, count, g_.n, sums))) {
          for (int64_t k = 0; k < count; ++k) out_[r + k] = round_double<T>(sums[k]);
          continue;
        }
      }
      for (int64_t k = 0; k < count; ++k) out_[r + k] = whole(worker, offset[k]);
    }
  }

  T whole(Worker& worker, int64_t base) const {
    if (g_.n <= kUnitsBlock) {
      const T* x = x_ + base;
      if (!inner_) {
        Walk walk(g_.reduced, 0);
        x = gather(walk, base, g_.n, worker.buffer.get());
      }
      T result;
      if (worker.row.short_row(x, g_.n, result)) return result;
      Sum sum;
      worker.row.add(sum, x, g_.n);
      return round_to<T>(sum, g_.n);
    }
    Sum sum;
    add(worker, sum, base, 0, g_.n);
    return round_to<T>(sum, g_.n);
  }

  const T* gather(Walk& walk, int64_t base, int64_t n, T* to) const {
    const int64_t stride = g_.reduced.a[g_.reduced.dims - 1];
    for (int64_t i = 0; i < n;) {
      const int64_t run = std::min(walk.left(), n - i);
      const T* from = x_ + base + walk.a;
      for (int64_t k = 0; k < run; ++k) to[i + k] = from[k * stride];
      walk.go(run);
      i += run;
    }
    return to;
  }

  // Elements begin .. end of the row at `base`.
  void add(Worker& worker, Sum& sum, int64_t base, int64_t begin, int64_t end) const {
    if (inner_) return worker.row.add(sum, x_ + base + begin, end - begin);
    Walk walk(g_.reduced, begin);
    for (int64_t i = begin; i < end;) {
      int64_t count = std::min(walk.left(), end - i);
      if (count >= 1024 && g_.reduced.a[g_.reduced.dims - 1] == 1) {
        worker.row.add(sum, x_ + base + walk.a, count);
        walk.go(count);
      } else {
        count = std::min(kBlock, end - i);
        worker.row.add(sum, gather(walk, base, count, worker.buffer.get()), count);
      }
      i += count;
    }
  }

  // A piece of a tile of columns, or of one row.
  void item(Worker& worker, int64_t tile, int64_t piece) {
    const int64_t begin = part_of(piece), end = part_of(piece + 1), first = first_of(tile), columns = columns_of(tile);
    int64_t base, unused;
    locate(g_.kept, first, base, unused);
    if (pieces_ > 1) {
      Sum* sums = &parts_[(tile * pieces_ + piece) * width_];
      return width_ == 1 ? add(worker, *sums, base, begin, end) : add_columns(worker, sums, base, columns, begin, end);
    }
    if constexpr (kDoubles<T>) {
      double sums[kTile];
      if (columns % blocks_.few == 0 && g_.reduced.dims == 1 && g_.n <= kBlock && worker.row.batch.may_try() &&
          worker.row.batch.says(blocks_.sum_columns(x_ + base, g_.n, g_.reduced.a[0], columns, sums))) {
        for (int64_t l = 0; l < columns; ++l) out_[first + l] = round_double<T>(sums[l]);
        return;
      }
    }
    std::fill(worker.sums.begin(), worker.sums.end(), Sum());
    add_columns(worker, worker.sums.data(), base, columns, begin, end);
    for (int64_t l = 0; l < columns; ++l) out_[first + l] = round_to<T>(worker.sums[l], g_.n);
  }
  int64_t part_of(int64_t piece) const { return g_.n / pieces_ * piece + std::min(piece, g_.n % pieces_); }

  void add_columns(Worker& worker, Sum* sums, int64_t base, int64_t columns, int64_t begin, int64_t end) const {
    Walk walk(g_.reduced, begin);
    const int64_t stride = g_.reduced.a[g_.reduced.dims - 1];
    for (int64_t i = begin; i < end;) {
      const T* from = x_ + base + walk.a;
      const int64_t count = std::min({walk.left(), end - i, kDown});
      for (int64_t c = 0; c < columns;) {
        int64_t done = fast_columns(worker, sums + c, from + c, columns - c, count, stride);
        if (done == 0) {
          done = std::min(blocks_.few, columns - c);
          T* to = worker.buffer.get();
          for (int64_t k = 0; k < count; ++k) {
            for (int64_t l = 0; l < done; ++l) to[l * kDown + k] = from[k * stride + c + l];
          }
          for (int64_t l = 0; l < done; ++l) worker.row.add(sums[c + l], to + l * kDown, count);
        }
        c += done;
      }
      walk.go(count);
      i += count;
    }
  }

  // How many of the columns it has added: none where the fast ways do not do.
  int64_t fast_columns(Worker& worker, Sum* sums, const T* x, int64_t columns, int64_t n, int64_t stride) const {
    if constexpr (kDoubles<T>) {
      double s[kTile];
      int64_t width = columns / blocks_.few * blocks_.few;
      while (width > 0 && !blocks_.sum_columns(x, n, stride, width, s)) width = width > blocks_.few ? blocks_.few : 0;
      for (int64_t l = 0; l < width; ++l) add_double(sums[l], s[l]);
      return width;
    }
    return columns >= blocks_.few && worker.row.add_columns(sums, x, n, stride) ? blocks_.few : 0;
  }

  const Geometry g_;
  const T* x_;
  T* out_;
  const Blocks<T>& blocks_;
  bool inner_ = true;
  int64_t across_ = 1;   // rows that lie side by side
  int64_t width_ = 1;    // of a tile
  int64_t in_line_ = 1;  // tiles beside each other
  int64_t tiles_ = 1;
  int64_t pieces_ = 1;  // that a long row is cut into
  std::vector<Sum> parts_;
};

template <class T>
void sum(const Geometry& g, const void* x, void* out) {
  T* to = static_cast<T*>(out);
  if (g.n == 0) return std::fill(to, to + g.rows, T{});
  if (g.rows > 0) Rows<T>(any_order(g), static_cast<const T*>(x), to).run();
}

}  // namespace
}  // namespace exact

void exact_sum(Type type, const Geometry& g, const void* x, void* out) {
  switch (type) {
    case Type::f16: return exact::sum<half_t>(g, x, out);
    case Type::bf16: return exact::sum<bfloat_t>(g, x, out);
    case Type::f32: return exact::sum<float>(g, x, out);
    case Type::f64: return exact::sum<double>(g, x, out);
    default: TORCH_INTERNAL_ASSERT(false, "exact_sum: a float type");
  }
}

}  // namespace detprobe
