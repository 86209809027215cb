// DSEG-1 as plain data: which records go to which destinations, what becomes of them, and where the numbers lie.
//
// Records and destinations are rows of `columns` numbers; columns never meet. The orders are in csrc/README.md.
#pragma once

#include <cstdint>

#include "job.h"

namespace detprobe {

constexpr int64_t kChunk = 256;  // records, or partials of one level, that are folded left to right

enum class Fold : int32_t { sum, prod, amax, amin };

// What a segment starts from: the destination, +0.0, or its own first record.
enum class Start : int32_t { given, zero, first };

// [batch, records, columns] of numbers, by strides in elements.
struct Records {
  const void* data = nullptr;
  int64_t batch_stride = 0, row_stride = 0, column_stride = 1;
};

// Segments that lie in a row. Segment s is of slots offsets[s] .. offsets[s + 1] - 1 and goes to row s of `out`; every
// batch has the same segments. Slot p holds record n = order[p] (order null: p), which is row from[n] of source (from
// null: n), times weight[n] (weight null: as it is) or times alpha (scaled). A row without records is left alone.
struct SegmentJob {
  Fold fold{};
  Start start{};
  Type type{};           // of source and out: floats only
  bool divided = false;  // the result is Z / N, n = records, and one more where the start is given
  bool scaled = false;
  double alpha = 1.0;  // already rounded to acc
  int64_t batch = 1, rows = 0, columns = 1;
  int64_t slots = 0;  // at most: sizes the workspace, since offsets[rows] is on the device
  const int64_t* order = nullptr;
  const int64_t* offsets = nullptr;  // [rows + 1], ascending
  const int64_t* from = nullptr;
  const void* weight = nullptr;  // [records] acc
  Records source;
  void* out = nullptr;  // [batch, rows, columns], side by side: holds what the destinations held before
  void* workspace = nullptr;
  void* stream = nullptr;
};

// The sum of records into `out` in source order, without a sort: one thread owns a destination and sees all keys. For
// the CPU, float32 and float64.
struct OwnerJob {
  Type type{};
  bool scaled = false;
  double alpha = 1.0;
  int64_t batch = 1, rows = 0, columns = 1, records = 0;
  const uint32_t* keys = nullptr;  // [records]: the row of each; one that is not below rows goes nowhere
  // The same in 64 bits, in the place of keys, for one column and few threads. Not checked: the first position that is
  // out of range goes to *bad, and then `out` means nothing.
  const int64_t* index = nullptr;
  int64_t* bad = nullptr;
  bool counted = true;  // false, with index: no row has more than 256 records
  Records source;
  void* out = nullptr;  // as that of SegmentJob
};

}  // namespace detprobe
