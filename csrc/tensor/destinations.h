// From an index to destinations, and from records and destinations to the kernels that fold them.
#pragma once

#include "../arith/segments.h"
#include "scatter.h"

namespace detprobe {

// Which of `size` rows each of `count` records goes to; one whose key is `size` goes nowhere.
struct Destinations {
  int64_t size = 0, count = 0;
  // [count] int64, not yet checked, in the place of keys until somebody asks for them; or undefined.
  Tensor index;
  const char* op = "";
  bool negative = false;   // numbers of `index` below 0 count from the end
  bool is_sparse = false;  // no row has more than 256 records, as far as is known
  Tensor keys;             // [count]: uint32 in an int32 tensor where the CPU's kernels take them, else int64
  Plan plan;               // as soon as somebody asks for it, or from the beginning
};

// An index of any shape in source order. Negative ones count from the end where `negative`; `none`, if it is not
// negative, is no destination. On the CPU an index out of range is an IndexError, here or in whatever first looks at
// the keys, before anything is written that the caller can see; on CUDA a device-side assert comes later.
Destinations destinations(const char* op, const Tensor& index, int64_t size, bool negative = false, int64_t none = -1);
Destinations destinations(const Plan& plan, int64_t size);
const Tensor& keyed(Destinations& to);
const Plan& sorted(Destinations& to);

// Position by position, the last record that goes where this one goes: [count] int64.
Tensor last_of_each(Destinations& to, const Tensor& like);

// A range check alone, for an index that is not yet the whole key.
void check_range(const char* op, const Tensor& index, int64_t size, bool negative);

// `source` as [batch, records, columns]: `lead` dimensions, then `middle` ones, then the others. It is replaced by a
// copy where strides do not tell that.
Records records_of(Tensor& source, int64_t lead, int64_t middle);

struct Folding {
  Fold fold = Fold::sum;
  Start start = Start::given;
  bool divided = false;
  double alpha = 1.0;
  Tensor weight;       // [records] acc, or undefined
  Tensor from;         // [records] int64: the row of source, or undefined
  bool fresh = false;  // nobody else has `out` yet: an error may leave it half written
};

// Whether the CPU's kernels can add records as they come, without a plan.
bool needs_no_sort(const Tensor& out, const Folding& how);

// Folds records into `out`, which lies side by side as [batch, rows, columns] and holds what was there before.
void fold_into(const Tensor& out, int64_t batch, int64_t columns, Destinations& to, const Records& source,
               const Folding& how);

}  // namespace detprobe
