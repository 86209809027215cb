// The partial sums of rows with more than 256 records: a running sum for each level of Z, closed when 256 came to it.
//
// -0.0 stands for "nothing yet": adding it changes no number's bits.

template <class A>
class Towers {
 public:
  explicit Towers(int64_t width) : width_(width) {}

  // Takes a full chunk of 256 and leaves nothing yet in its place.
  __attribute__((noinline)) void close(uint32_t row, A* chunk) {
    push(towers_[row], 0, chunk);
    std::fill_n(chunk, width_, A(-0.0));
  }

  bool has(uint32_t row) const { return !towers_.empty() && towers_.count(row) != 0; }

  // Folds all that was closed, and what is left in chunk_of(row), into that chunk, for each row.
  template <class F>
  void finish(const F& chunk_of) const {
    for (const auto& [row, tower] : towers_) {
      A* chunk = chunk_of(row);
      for (size_t level = 0; level < tower.counts.size(); ++level) {
        const A* sum = tower.sums.data() + static_cast<int64_t>(level) * width_;
        for (int64_t i = 0; i < width_; ++i) chunk[i] = sum[i] + chunk[i];
      }
      for (int64_t i = 0; i < width_; ++i) chunk[i] = canonical(chunk[i]);
    }
  }

 private:
  struct Tower {
    std::vector<A> sums;  // [levels, width]
    std::vector<int32_t> counts;
  };

  void push(Tower& tower, size_t level, A* part) {
    if (tower.counts.size() == level) {
      tower.counts.push_back(0);
      tower.sums.resize(tower.sums.size() + width_, A(-0.0));
    }
    A* sum = tower.sums.data() + static_cast<int64_t>(level) * width_;
    for (int64_t i = 0; i < width_; ++i) sum[i] = sum[i] + part[i];
    if (++tower.counts[level] < kChunk) return;
    tower.counts[level] = 0;
    std::vector<A> closed(sum, sum + width_);
    std::fill_n(sum, width_, A(-0.0));
    push(tower, level + 1, closed.data());
  }

  int64_t width_;
  std::unordered_map<uint32_t, Tower> towers_;
};
