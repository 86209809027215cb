// How the work of a scatter is split between threads. Bits never depend on it: a destination belongs to one thread.

constexpr int64_t kScatterGrain = 32768;  // numbers that are worth another thread

inline int64_t threads_for(int64_t numbers) {
  return numbers < kScatterGrain || at::in_parallel_region() ? 1 : at::get_num_threads();
}

// `parts` + 1 bounds of ranges of rows that get about as many records each, guessed from a few of the keys.
inline std::vector<int64_t> ranges_by_keys(const uint32_t* keys, int64_t records, int64_t rows, int64_t parts,
                                           bool& is_hot) {
  std::vector<int64_t> bounds(parts + 1, rows);
  bounds[0] = 0;
  is_hot = false;
  if (parts == 1) return bounds;
  std::vector<uint32_t> sample(std::clamp<int64_t>(records / 256, 16, 1024));
  const int64_t count = static_cast<int64_t>(sample.size());
  for (int64_t i = 0; i < count; ++i) sample[i] = keys[records * i / count];
  std::sort(sample.begin(), sample.end());
  for (int64_t k = 1; k < parts; ++k) {
    const int64_t bound = sample[count * k / parts];
    bounds[k] = std::clamp(bound, bounds[k - 1], rows);
  }
  // One key that fills two thirds of a range, and more, leaves the other threads without work.
  const int64_t run = std::max<int64_t>(2, 2 * count / (3 * parts));
  for (int64_t i = 0; i + run < count; ++i) is_hot |= sample[i] == sample[i + run];
  return bounds;
}

// The same for segments whose sizes are known: a row counts as one record more.
inline std::vector<int64_t> ranges_by_offsets(const int64_t* offsets, int64_t rows, int64_t parts, bool& is_hot) {
  std::vector<int64_t> bounds(parts + 1, rows);
  bounds[0] = 0;
  is_hot = false;
  const int64_t total = offsets[rows] - offsets[0] + rows;
  for (int64_t k = 1; k < parts; ++k) {
    const int64_t wanted = total * k / parts;
    int64_t low = bounds[k - 1], high = rows;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (offsets[middle] - offsets[0] + middle < wanted)
        low = middle + 1;
      else
        high = middle;
    }
    bounds[k] = low;
    if (low > 0) is_hot |= 3 * (offsets[low] - offsets[low - 1]) * parts > 2 * total;
  }
  return bounds;
}
