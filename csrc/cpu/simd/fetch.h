// Stretches of rows in acc, wherever and as whatever their elements lie. Included once per instruction set.
//
// The type of the elements is known at run time alone: what computes is made once for each acc.

#define DETPROBE_NOINLINE __attribute__((noinline))

// f(pointer of the elements' type).
template <class A, class F>
DETPROBE_FN void with_type(Type type, const F& f) {
  if constexpr (std::is_same_v<A, double>) {
    f(static_cast<double*>(nullptr));
  } else if constexpr (std::is_same_v<A, float>) {
    if (type == Type::f16) return f(static_cast<half_t*>(nullptr));
    if (type == Type::bf16) return f(static_cast<bfloat_t*>(nullptr));
    f(static_cast<float*>(nullptr));
  } else {
    switch (type) {
      case Type::i32: return f(static_cast<int32_t*>(nullptr));
      case Type::i16: return f(static_cast<int16_t*>(nullptr));
      case Type::i8: return f(static_cast<int8_t*>(nullptr));
      case Type::u8: return f(static_cast<uint8_t*>(nullptr));
      default: return f(static_cast<uint64_t*>(nullptr));
    }
  }
}
// Elements of this type are in acc already.
inline bool native(Type type) { return type == Type::f32 || type == Type::f64 || type == Type::i64; }
inline int64_t bytes_of(Type type) {
  switch (type) {
    case Type::f64:
    case Type::i64: return 8;
    case Type::f32:
    case Type::i32: return 4;
    case Type::i8:
    case Type::u8: return 1;
    default: return 2;
  }
}

inline int64_t last_step(const Layout& layout, bool second) {
  const int32_t last = layout.dims - 1;
  return last < 0 ? 0 : (second ? layout.b[last] : layout.a[last]);
}

// Every second element, n of them; reads no further than the last.
template <class A>
DETPROBE_FN void every_second(const A* from, int64_t n, A* out) {
  using V = V_<A>;
  int64_t i = 0;
  for (; i + kWidth<A> < n; i += kWidth<A>) {
    const V x = load_bits<V>(from + 2 * i), y = load_bits<V>(from + 2 * i + kWidth<A>);
    store_bits(out + i, evens(x, y, std::make_integer_sequence<int, kWidth<A>>{}));
  }
  for (; i < n; ++i) out[i] = from[2 * i];
}

// Copies `count` elements from a walk's place on, side by side and in acc.
template <class A>
DETPROBE_NOINLINE void gather(Type type, const void* p, bool second, Walk walk, int64_t count, A* out) {
  const int64_t step = last_step(walk.layout(), second);
  with_type<A>(type, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    while (count > 0) {
      const int64_t run = std::min(count, walk.left());
      const T* from = static_cast<const T*>(p) + (second ? walk.b : walk.a);
      if (step == 1) {
        widen_run(from, run, out);
      } else if (std::is_same_v<T, A> && step == 2) {
        every_second(reinterpret_cast<const A*>(from), run, out);
      } else {
        for (int64_t i = 0; i < run; ++i) out[i] = static_cast<A>(widen(from[i * step]));
      }
      out += run;
      count -= run;
      walk.go(run);
    }
  });
}

// The inverse, rounding once.
template <class A>
DETPROBE_NOINLINE void scatter(Type type, const A* from, bool second, Walk walk, int64_t count, void* p) {
  const int64_t step = last_step(walk.layout(), second);
  with_type<A>(type, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    while (count > 0) {
      const int64_t run = std::min(count, walk.left());
      T* to = static_cast<T*>(p) + (second ? walk.b : walk.a);
      if (step == 1) {
        narrow_run(from, run, to);
      } else {
        for (int64_t i = 0; i < run; ++i) to[i * step] = narrow<T>(from[i]);
      }
      from += run;
      count -= run;
      walk.go(run);
    }
  });
}

// Whether `count` elements from here on lie side by side.
inline bool side_by_side(const Walk& walk, bool second, int64_t count) {
  if (count <= 1 || walk.layout().dims == 0) return count <= 1;
  return count <= walk.left() && last_step(walk.layout(), second) == 1;
}

inline bool single_run(const Layout& layout, bool second) {
  return layout.dims == 0 || (layout.dims == 1 && last_step(layout, second) == 1);
}

// Where a row starts.
struct Place {
  int64_t a, b;
};

// A job, typed: x and y by bytes, everything else in acc.
template <class A>
struct Typed {
  const Job& job;
  const Type type = job.type;
  const int64_t size = bytes_of(job.type);
  const bool is_native = native(job.type);
  // Rows of x, or y, are single runs of acc: a stretch is a pointer.
  const bool flat_x = is_native && single_run(job.g.reduced, false);
  const bool flat_y = is_native && single_run(job.g.reduced, true);
  // Elements of memory from one element of a row of x to the next, where that is the same for all; else 0.
  const int64_t every = job.g.reduced.dims > 1 ? 0 : (job.g.reduced.dims ? job.g.reduced.a[0] : 1);
  const A* e[kVectors];
  A e_constant[kVectors];
  const A* p[kParams];
  A p_constant[kParams];
  A n;

  explicit Typed(const Job& j) : job(j), n(static_cast<A>(j.g.n)) {
#pragma GCC unroll 8
    for (int k = 0; k < kVectors; ++k) {
      e[k] = static_cast<const A*>(j.e[k]);
      e_constant[k] = static_cast<A>(j.e_constant[k]);
    }
#pragma GCC unroll 8
    for (int k = 0; k < kParams; ++k) {
      p[k] = static_cast<const A*>(j.p[k]);
      p_constant[k] = static_cast<A>(j.p_constant[k]);
    }
  }
  const void* x(int64_t at) const { return static_cast<const char*>(job.x) + at * size; }
  const void* y(int64_t at) const { return static_cast<const char*>(job.y) + at * size; }
  void* out(int64_t at) const { return static_cast<char*>(job.out) + at * size; }
  A param(int k, int64_t row) const { return p[k] ? p[k][row] : p_constant[k]; }

  // `there`: scratch holds them already.
  const A* fetch(const void* from, bool second, const Walk& walk, int64_t count, A* scratch, bool there = false) const {
    if (is_native && side_by_side(walk, second, count)) {
      return static_cast<const A*>(from) + (second ? walk.b : walk.a);
    }
    if (!there) gather(type, from, second, walk, count, scratch);
    return scratch;
  }
};

// Room for a block's elements, and for the vectors that are constants.
template <class A>
struct Scratch {
  // Whole lines of the cache: a vector that lies across two of them costs twice.
  alignas(64) A x[kBlock], y[kBlock], out[kBlock], e[kVectors][kBlock];

  // For a block. What is fetched stays until the next one: two stretches at a time need two of these.
  void fill_constants(const Typed<A>& t, int mask) {
#pragma GCC unroll 8
    for (int k = 0; k < kVectors; ++k) {
      if (mask >> k & 1 && !t.e[k]) std::fill_n(e[k], kBlock, t.e_constant[k]);
    }
  }
  // What was fetched of a row that is one block stays for its next passes.
  bool has_x = false, has_y = false;
  void keep(bool of_x, bool of_y) {
    has_x |= of_x;
    has_y |= of_y;
  }

  // Elements from..from + k of the row that starts at `row`.
  Stretch<A> stretch(const Typed<A>& t, bool reads_x, bool reads_y, const Place& row, int64_t from, int64_t k) {
    Stretch<A> r{nullptr, nullptr, {}};
    if (reads_x) {
      r.x = t.flat_x ? static_cast<const A*>(t.x(row.a)) + from
                     : t.fetch(t.x(row.a), false, Walk(t.job.g.reduced, from), k, x, has_x);
    }
    if (reads_y) {
      r.y = t.flat_y ? static_cast<const A*>(t.y(row.b)) + from
                     : t.fetch(t.y(row.b), true, Walk(t.job.g.reduced, from), k, y, has_y);
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) r.e[v] = t.e[v] ? t.e[v] + from : e[v];
    return r;
  }
};
