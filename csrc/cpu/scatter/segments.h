// Z, amax and amin of segments whose records are known by a plan: a row is folded in registers, some columns at a time.
//
// Computes, Order, Types, Domain, Error bound: the scatter ops in csrc/README.md. Level: device_to_device.

struct SumStep {
  template <class V>
  static DETPROBE_FN V take(V s, V z) {
    return s + z;
  }
};
struct ProductStep {
  template <class V>
  static DETPROBE_FN V take(V s, V z) {
    return s * z;
  }
};
// NaN wins; of equal numbers, which may be zeros of either sign, the larger has the bits that both have.
struct LargestStep {
  template <class V>
  static DETPROBE_FN V take(V s, V z) {
    const V equal = cast<V>(cast<Word<V>>(s) & cast<Word<V>>(z));
    const V larger = s > z ? s : (s == z ? equal : z);
    return s == s ? larger : s;
  }
};
struct SmallestStep {
  template <class V>
  static DETPROBE_FN V take(V s, V z) {
    const V equal = cast<V>(cast<Word<V>>(s) | cast<Word<V>>(z));
    const V smaller = s < z ? s : (s == z ? equal : z);
    return s == s ? smaller : s;
  }
};

// As many elements as V has lanes, in acc.
template <class V, class T>
DETPROBE_FN V load_as(const T* p) {
  if constexpr (LaneOf<V>::kCount == 1)
    return widen(*p);
  else
    return load<sizeof(V)>(p);
}

// Where the record of a slot lies, and what it is multiplied by. A copy in registers, since a store of numbers may
// change whatever memory holds, for all the compiler knows.
template <class A, bool Scaled>
struct Slots {
  const int64_t *order, *from;
  const A* weight;
  A alpha;
  int64_t stride, count;

  explicit Slots(const SegmentJob& job)
      : order(job.order),
        from(job.from),
        weight(static_cast<const A*>(job.weight)),
        alpha(static_cast<A>(job.alpha)),
        stride(job.source.row_stride),
        count(job.slots) {}

  DETPROBE_FN int64_t place(int64_t slot) const {
    const int64_t n = order ? order[slot] : slot;
    return (from ? from[n] : n) * stride;
  }
  template <class V>
  DETPROBE_FN V factor(int64_t slot) const {
    if constexpr (!Scaled) return V{};
    return splat<V>(weight ? weight[order ? order[slot] : slot] : alpha);
  }
  template <class V>
  DETPROBE_FN V times(V z, V by) const {
    if constexpr (Scaled) return by * z;
    return z;
  }
};

template <class T, class Step, bool Scaled>
class SegmentRows {
  using A = acc_t<T>;
  using Reader = Slots<A, Scaled>;
  static constexpr int64_t kLevels = 8;  // 256^8 records
  static constexpr int64_t kAhead = 8;

 public:
  explicit SegmentRows(const SegmentJob& job) : job_(job) {}

  // Columns first .. past - 1 of rows low .. high - 1.
  void run(int64_t batch, int64_t low, int64_t high, int64_t first, int64_t past) const {
    const FloatMode mode;
    if (!Scaled && past - first == 1) return singles(batch, low, high, first);
    std::vector<A> room;
    for (int64_t row = low; row < high; ++row) {
      const int64_t begin = job_.offsets[row], end = job_.offsets[row + 1];
      if (begin == end) continue;
      using V = Vec<A, DETPROBE_BYTES>;
      constexpr int64_t kWidth = LaneOf<V>::kCount;
      int64_t c = first;
      if (job_.source.column_stride == 1) {
        if (past - c > 8 * kWidth) c = wide<V>(batch, row, begin, end, c, (past - c) / kWidth * kWidth, room);
        if (c + 8 * kWidth <= past) c = tile<V, 8>(batch, row, begin, end, c);
        if (c + 4 * kWidth <= past) c = tile<V, 4>(batch, row, begin, end, c);
        if (c + 2 * kWidth <= past) c = tile<V, 2>(batch, row, begin, end, c);
        if (c + kWidth <= past) c = tile<V, 1>(batch, row, begin, end, c);
        if constexpr (DETPROBE_BYTES > 16) {
          using Half = Vec<A, 16>;
          while (c + LaneOf<Half>::kCount <= past) c = tile<Half, 1>(batch, row, begin, end, c);
        }
      }
      while (c < past) c = tile<A, 1>(batch, row, begin, end, c);
    }
  }

 private:
  // Folds columns c .. of one segment; returns the column behind.
  template <class V, int N>
  __attribute__((noinline)) int64_t tile(int64_t batch, int64_t row, int64_t begin, int64_t end, int64_t c) const {
    constexpr int64_t kWidth = LaneOf<V>::kCount;
    const T* from =
        static_cast<const T*>(job_.source.data) + batch * job_.source.batch_stride + c * job_.source.column_stride;
    T* to = static_cast<T*>(job_.out) + (batch * job_.rows + row) * job_.columns + c;
    const Reader slots(job_);
    V s[N];
    int64_t p = begin;
    if (job_.start == Start::given) {
#pragma GCC unroll 8
      for (int k = 0; k < N; ++k) s[k] = load_as<V>(to + k * kWidth);
    } else if (job_.start == Start::zero) {
#pragma GCC unroll 8
      for (int k = 0; k < N; ++k) s[k] = V{};
    } else {
      record<V, N>(slots, from, p++, s);
    }
    fold_chunk<V, N>(slots, from, p, std::min(end, begin + kChunk), s);
    p = std::min(end, begin + kChunk);
    if (p < end) fold_more<V, N>(slots, from, p, end, s);
    if (job_.divided) {
      const A n = static_cast<A>(end - begin + (job_.start == Start::given));
#pragma GCC unroll 8
      for (int k = 0; k < N; ++k) s[k] = s[k] / splat<V>(n);
    }
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) store<V>(to + k * kWidth, s[k]);
    return c + N * kWidth;
  }

  // One column, without factors: rows are short, so nothing is called for them.
  void singles(int64_t batch, int64_t low, int64_t high, int64_t column) const {
    const T* from =
        static_cast<const T*>(job_.source.data) + batch * job_.source.batch_stride + column * job_.source.column_stride;
    T* to = static_cast<T*>(job_.out) + batch * job_.rows * job_.columns + column;
    const Reader slots(job_);
    for (int64_t row = low; row < high; ++row) {
      const int64_t begin = job_.offsets[row], end = job_.offsets[row + 1];
      if (begin == end) continue;
      if (end - begin > kChunk) {
        tile<A, 1>(batch, row, begin, end, column);
        continue;
      }
      const bool first = job_.start == Start::first;
      A s =
          first ? widen(from[slots.place(begin)]) : (job_.start == Start::given ? widen(to[row * job_.columns]) : A(0));
      for (int64_t p = begin + first; p < end; ++p) {
        if (slots.order && p + 2 * kAhead < slots.count) __builtin_prefetch(from + slots.place(p + 2 * kAhead));
        s = Step::take(s, widen(from[slots.place(p)]));
      }
      if (job_.divided) s = s / static_cast<A>(end - begin + (job_.start == Start::given));
      to[row * job_.columns] = narrow<T>(s);
    }
  }

  // Many columns: a record at a time, into a row of acc that stays in the nearest cache. Returns the column behind.
  template <class V>
  __attribute__((noinline)) int64_t wide(int64_t batch, int64_t row, int64_t begin, int64_t end, int64_t c,
                                         int64_t width, std::vector<A>& room) const {
    constexpr int64_t kWidth = LaneOf<V>::kCount;
    const T* from = static_cast<const T*>(job_.source.data) + batch * job_.source.batch_stride + c;
    T* to = static_cast<T*>(job_.out) + (batch * job_.rows + row) * job_.columns + c;
    const Reader slots(job_);
    int64_t counts[kLevels] = {};
    // The chunk, and behind it a running value for each level that a segment of this size can have.
    int64_t levels = 1;
    for (int64_t m = end - begin; m > kChunk; m = (m + kChunk - 1) / kChunk) ++levels;
    if (static_cast<int64_t>(room.size()) < (levels + 1) * width) room.resize((levels + 1) * width);
    A* chunk = room.data();
    // The first lines of the record after the next: the machine itself follows from there.
    const int64_t bytes = std::min<int64_t>(width * static_cast<int64_t>(sizeof(T)), 512);
    const auto over = [&](const auto& f) {
      for (int64_t i = 0; i < width; i += kWidth) f(i);
    };
    const auto hand_on = [&](const A* part) {
      int64_t level = 0;
      // A level that is full goes up first, from the highest of them down.
      while (counts[level] == kChunk) ++level;
      for (; level > 0; --level) {
        take_up<V>(chunk + (level + 1) * width, chunk + level * width, width, counts[level]);
        counts[level - 1] = 0;
      }
      take_up<V>(chunk + width, part, width, counts[0]);
    };
    for (int64_t p = begin; p < end;) {
      const int64_t past = std::min(end, p + kChunk);
      const bool own_first = p > begin || job_.start == Start::first;
      if (own_first) {
        const V by = slots.template factor<V>(p);
        const T* r = from + slots.place(p);
        over([&](int64_t i) { store_bits(chunk + i, slots.template times<V>(load_as<V>(r + i), by)); });
      } else if (job_.start == Start::given) {
        over([&](int64_t i) { store_bits(chunk + i, load_as<V>(to + i)); });
      } else {
        std::fill_n(chunk, width, A(0));
      }
      for (p += own_first; p < past; ++p) {
        const T* r = from + slots.place(p);
        if (slots.order && p + 2 < slots.count) {
          const char* next = reinterpret_cast<const char*>(from + slots.place(p + 2));
          for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(next + b);
        }
        const V by = slots.template factor<V>(p);
        over([&](int64_t i) {
          const V z = slots.template times<V>(load_as<V>(r + i), by);
          store_bits(chunk + i, Step::take(load_bits<V>(chunk + i), z));
        });
      }
      if (p < end || counts[0] > 0) hand_on(chunk);
    }
    const A* result = chunk;
    if (counts[0] > 0) {
      for (int64_t level = 1; level < levels && counts[level] > 0; ++level) {
        over([&](int64_t i) {
          A* lower = chunk + level * width + i;
          store_bits(lower + width, Step::take(load_bits<V>(lower + width), load_bits<V>(lower)));
        });
        result = chunk + (level + 1) * width;
      }
      if (result == chunk) result = chunk + width;
    }
    const A n = static_cast<A>(end - begin + (job_.start == Start::given));
    over([&](int64_t i) {
      const V value = load_bits<V>(result + i);
      store<V>(to + i, job_.divided ? value / splat<V>(n) : value);
    });
    return c + width;
  }

  // Another part for a level, whose value is `sum`.
  template <class V>
  static void take_up(A* sum, const A* part, int64_t width, int64_t& count) {
    for (int64_t i = 0; i < width; i += LaneOf<V>::kCount) {
      const V z = load_bits<V>(part + i);
      store_bits(sum + i, count == 0 ? z : Step::take(load_bits<V>(sum + i), z));
    }
    ++count;
  }

  template <class V>
  DETPROBE_FN void store(T* to, V s) const {
    const V value = canonical(s);
    if constexpr (std::is_same_v<T, A>) {
      store_bits(to, value);
    } else {
      A lanes[LaneOf<V>::kCount];
      store_bits(lanes, value);
      for (int64_t l = 0; l < LaneOf<V>::kCount; ++l) to[l] = narrow<T>(lanes[l]);
    }
  }

  template <class V, int N>
  static DETPROBE_FN void record(const Reader& slots, const T* from, int64_t slot, V* z) {
    const T* r = from + slots.place(slot);
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) z[k] = load_as<V>(r + k * LaneOf<V>::kCount);
    const V by = slots.template factor<V>(slot);
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) z[k] = slots.template times<V>(z[k], by);
  }

  template <class V, int N>
  static DETPROBE_FN void fold_chunk(const Reader& slots, const T* from, int64_t p, int64_t end, V* s) {
    V z[N];
    for (; p < end; ++p) {
      if (slots.order && p + kAhead < slots.count) {
        const char* next = reinterpret_cast<const char*>(from + slots.place(p + kAhead));
        __builtin_prefetch(next);
        if (N * sizeof(V) > 64) __builtin_prefetch(next + 64);
        if (N * sizeof(V) > 128) __builtin_prefetch(next + 128), __builtin_prefetch(next + 192);
      }
      record<V, N>(slots, from, p, z);
#pragma GCC unroll 8
      for (int k = 0; k < N; ++k) s[k] = Step::take(s[k], z[k]);
    }
  }

  // The chunks behind the first one, whose value is s: a running value for each level, handed on when 256 came to it.
  template <class V, int N>
  static __attribute__((noinline)) void fold_more(const Reader slots, const T* from, int64_t p, int64_t end, V* s) {
    V sums[kLevels][N] = {};
    int32_t counts[kLevels] = {};
    const auto push = [&](V* part) {
      for (int level = 0;; ++level) {
        const bool full = counts[level] == kChunk;
        V closed[N];
        for (int k = 0; k < N; ++k) {
          closed[k] = sums[level][k];
          sums[level][k] = counts[level] == 0 || full ? part[k] : Step::take(sums[level][k], part[k]);
          part[k] = closed[k];
        }
        counts[level] = full ? 1 : counts[level] + 1;
        if (!full) return;
      }
    };
    push(s);
    // Few columns wait for the sum before: chunks are independent, so some of them go side by side.
    constexpr int kSide = N <= 2 ? 4 : 1;
    for (; kSide > 1 && end - p >= kSide * kChunk; p += kSide * kChunk) {
      V chunk[kSide][N];
#pragma GCC unroll 4
      for (int j = 0; j < kSide; ++j) record<V, N>(slots, from, p + j * kChunk, chunk[j]);
      for (int64_t i = 1; i < kChunk; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kSide; ++j) {
          V z[N];
          record<V, N>(slots, from, p + j * kChunk + i, z);
#pragma GCC unroll 2
          for (int k = 0; k < N; ++k) chunk[j][k] = Step::take(chunk[j][k], z[k]);
        }
      }
      for (int j = 0; j < kSide; ++j) push(chunk[j]);
    }
    while (p < end) {
      V chunk[N];
      const int64_t past = std::min(end, p + kChunk);
      record<V, N>(slots, from, p, chunk);
      fold_chunk<V, N>(slots, from, p + 1, past, chunk);
      push(chunk);
      p = past;
    }
    for (int k = 0; k < N; ++k) s[k] = sums[0][k];
    for (int level = 1; level < kLevels && counts[level] > 0; ++level) {
      for (int k = 0; k < N; ++k) s[k] = Step::take(sums[level][k], s[k]);
    }
  }

  const SegmentJob& job_;
};

template <class T, class Step, bool Scaled = false>
void fold_rows(const SegmentJob& job) {
  const SegmentRows<T, Step, Scaled> rows(job);
  const int64_t threads = threads_for((job.slots + job.rows) * job.columns * job.batch);
  const int64_t parts = threads == 1 ? 1 : std::min<int64_t>(4 * threads, std::max<int64_t>(1, job.rows));
  bool is_hot;
  const std::vector<int64_t> bounds = ranges_by_offsets(job.offsets, job.rows, parts, is_hot);
  const int64_t splits = is_hot && job.columns >= 16 * threads ? threads : 1;
  at::parallel_for(0, job.batch * parts * splits, threads == 1 ? INT64_MAX : 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      // The two halves of a hot row are far apart among the tasks, so that two threads get them.
      const int64_t k = task % parts, batch = task / parts % job.batch, split = task / parts / job.batch;
      const int64_t first = job.columns * split / splits / 16 * 16;
      const int64_t past = split + 1 == splits ? job.columns : job.columns * (split + 1) / splits / 16 * 16;
      rows.run(batch, bounds[k], bounds[k + 1], first, past);
    }
  });
}

template <class T>
void fold_typed(const SegmentJob& job) {
  switch (job.fold) {
    case Fold::sum: return job.weight || job.scaled ? fold_rows<T, SumStep, true>(job) : fold_rows<T, SumStep>(job);
    case Fold::prod: return fold_rows<T, ProductStep>(job);
    case Fold::amax: return fold_rows<T, LargestStep>(job);
    case Fold::amin: return fold_rows<T, SmallestStep>(job);
  }
}

const char* fold(const SegmentJob& job) {
  if (job.fold != Fold::sum && (job.weight || job.scaled)) return "only sums take factors";
  switch (job.type) {
    case Type::f16: fold_typed<half_t>(job); break;
    case Type::bf16: fold_typed<bfloat_t>(job); break;
    case Type::f32: fold_typed<float>(job); break;
    case Type::f64: fold_typed<double>(job); break;
    default: return "segments of floats only";
  }
  return nullptr;
}
