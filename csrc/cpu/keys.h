// Indices on the CPU: checked, brought to 32 bits, and sorted by counting. Integers only, so threads change nothing.
#pragma once

#include <cstdint>

namespace detprobe {

// The keys of `n` records: an index from 0 to size - 1 is its own key, a negative one is counted from the end where
// that is allowed, and `none` (where there is such an index, else -1) becomes `size`, which is no destination. Returns
// the first position whose index is out of range, or -1. `keys` may be null: then it only checks. size < 2^32 - 1.
template <class Index>
int64_t keys_of(const Index* index, int64_t n, int64_t size, bool negative, int64_t none, uint32_t* keys);

// order[offsets[r]] .. order[offsets[r + 1] - 1] are the records with key r, ascending. offsets has rows + 1 places;
// what has no destination comes last.
void sort_keys(const uint32_t* keys, int64_t n, int64_t rows, int64_t* order, int64_t* offsets);

}  // namespace detprobe
