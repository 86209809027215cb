// How threads reach elements: whatever type and strides they have, in acc, a few at a time.
//
// The type of the elements is known at run time alone: kernels are made once for each acc, and what depends on the type
// is the loading and the storing of a chunk.
#pragma once

#include "scalar.h"

namespace detprobe::cuda {

// Integers add up modulo 2^64.
template <class T>
using Acc = std::conditional_t<std::is_same_v<acc_t<T>, int64_t>, uint64_t, acc_t<T>>;

// f(pointer of the elements' type).
template <class A, class F>
DETPROBE_FN void with_type(Type type, const F& f) {
  if constexpr (std::is_same_v<A, double>) {
    f(static_cast<double*>(nullptr));
  } else if constexpr (std::is_same_v<A, float>) {
    if (type == Type::f16) {
      f(static_cast<half_t*>(nullptr));
    } else if (type == Type::bf16) {
      f(static_cast<bfloat_t*>(nullptr));
    } else {
      f(static_cast<float*>(nullptr));
    }
  } else {
    switch (type) {
      case Type::i32: f(static_cast<int32_t*>(nullptr)); break;
      case Type::i16: f(static_cast<int16_t*>(nullptr)); break;
      case Type::i8: f(static_cast<int8_t*>(nullptr)); break;
      case Type::u8: f(static_cast<uint8_t*>(nullptr)); break;
      default: f(static_cast<int64_t*>(nullptr));
    }
  }
}

template <class T>
DETPROBE_FN Acc<T> to_acc(T x) {
  return static_cast<Acc<T>>(widen(x));
}
template <class T>
DETPROBE_FN T from_acc(Acc<T> x) {
  return narrow<T>(static_cast<acc_t<T>>(x));
}
#ifdef __CUDA_ARCH__
// The same by one instruction. What NaN comes out of it is not looked at: a stored NaN is the canonical one.
template <>
DETPROBE_FN float to_acc<half_t>(half_t x) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
}
template <>
DETPROBE_FN half_t from_acc<half_t>(float x) {
  half_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half.bits) : "f"(x));
  return x == x ? half : half_t{0x7E00u};
}
#endif

// The result of a row. Integers of every width give an int64.
template <class A>
DETPROBE_FN void store_result(const Job& job, int64_t row, A value) {
  if constexpr (std::is_same_v<A, uint64_t>) {
    static_cast<uint64_t*>(job.out)[row] = value;
  } else {
    with_type<A>(job.type, [&](auto* tag) {
      using T = std::remove_pointer_t<decltype(tag)>;
      static_cast<T*>(job.out)[row] = from_acc<T>(value);
    });
  }
}

// Number k of a row that comes with the job, or that an earlier pass has left.
template <class A>
DETPROBE_FN A number(const Job& job, int k, int64_t row) {
  return job.p[k] ? static_cast<const A*>(job.p[k])[row] : static_cast<A>(job.p_constant[k]);
}
template <int Mask, class A>
DETPROBE_FN void load_numbers(const Job& job, int64_t row, A* p) {
  DETPROBE_UNROLL
  for (int k = 0; k < kParams; ++k) {
    if (Mask >> k & 1) p[k] = number<A>(job, k, row);
  }
}

// Where an element, or a row, lies in both tensors.
struct Place {
  int64_t a, b;
};

// Division of 64 bits takes several times as long.
DETPROBE_FN int64_t divide_by(int64_t x, int64_t size, int64_t& rest) {
  if (((x | size) >> 32) == 0) {
    const uint32_t q = static_cast<uint32_t>(x) / static_cast<uint32_t>(size);
    rest = static_cast<uint32_t>(x) - q * static_cast<uint32_t>(size);
    return q;
  }
  const int64_t q = x / size;
  rest = x - q * size;
  return q;
}

// As `locate`; `inner` becomes the index in the innermost dimension.
DETPROBE_FN Place place_of(const Layout& layout, int64_t i, int64_t& inner) {
  Place place{0, 0};
  inner = i;
  for (int32_t d = layout.dims - 1; d > 0; --d) {
    int64_t index;
    i = divide_by(i, layout.sizes[d], index);
    place.a += index * layout.a[d];
    place.b += index * layout.b[d];
    if (d == layout.dims - 1) inner = index;
  }
  if (layout.dims > 0) {
    place.a += i * layout.a[0];
    place.b += i * layout.b[0];
  }
  return place;
}
DETPROBE_FN Place place_of(const Layout& layout, int64_t i) {
  int64_t inner;
  return place_of(layout, i, inner);
}

template <class A>
constexpr int kChunk = 32 / sizeof(A);  // loads of a thread that are under way at once

// `live` elements at equal steps, at most kChunk.
template <class A>
struct Chunk {
  Place at, step;
  int live;

  // What is not live is zero.
  DETPROBE_FN void load_x(Type type, const void* x, A* v) const { load(type, x, at.a, step.a, v); }
  DETPROBE_FN void load_y(Type type, const void* y, A* v) const { load(type, y, at.b, step.b, v); }
  DETPROBE_FN void load(Type type, const void* p, int64_t start, int64_t go, A* v) const {
    with_type<A>(type, [&](auto* tag) {
      using T = std::remove_pointer_t<decltype(tag)>;
      const T* from = static_cast<const T*>(p) + start;
      DETPROBE_UNROLL
      for (int u = 0; u < kChunk<A>; ++u, from += go) v[u] = u < live ? to_acc(*from) : A{};
    });
  }
  // Rounds once; a NaN becomes the canonical one.
  DETPROBE_FN void store(Type type, void* p, int64_t start, int64_t go, const A* v) const {
    with_type<A>(type, [&](auto* tag) {
      using T = std::remove_pointer_t<decltype(tag)>;
      T* to = static_cast<T*>(p) + start;
      DETPROBE_UNROLL
      for (int u = 0; u < kChunk<A>; ++u, to += go) {
        if (u < live) *to = from_acc<T>(v[u]);
      }
    });
  }
};

// Part of a row: its elements `from` to `from + k - 1`, counted from the row's end where it is read backwards.
struct Part {
  Place row;
  int64_t from;
  int32_t k;
  bool reverse = false;
};

// f(chunk, i) for elements i, i + Step, .. of a part, i from `first` on. A chunk ends where the innermost dimension
// does; only there a place is computed by division.
template <class A, int Step, class F>
DETPROBE_FN void sweep(const Geometry& g, const Part& part, int32_t first, const F& f) {
  const Layout& layout = g.reduced;
  const int32_t last = layout.dims - 1;
  const int64_t size = last < 0 ? 1 : layout.sizes[last], step = part.reverse ? -Step : Step;
  Chunk<A> c{};
  c.step = {last < 0 ? 0 : step * layout.a[last], last < 0 ? 0 : step * layout.b[last]};
  int64_t inner = -1;
  for (int32_t i = first; i < part.k; i += c.live * Step) {
    if (static_cast<uint64_t>(inner) >= static_cast<uint64_t>(size)) {
      const int64_t at = part.from + i;
      c.at = place_of(layout, part.reverse ? g.n - 1 - at : at, inner);
      c.at.a += part.row.a;
      c.at.b += part.row.b;
    }
    const int64_t left = (part.reverse ? inner : size - 1 - inner) / Step;
    const int32_t wanted = (part.k - 1 - i) / Step;
    c.live = 1 + static_cast<int32_t>(left < wanted ? left : wanted);
    c.live = c.live < kChunk<A> ? c.live : kChunk<A>;
    f(c, i);
    inner += c.live * step;
    c.at.a += c.live * c.step.a;
    c.at.b += c.live * c.step.b;
  }
}

// What a step or a map, R, reads of a chunk.
template <class R, class A, int Step>
struct Elements {
  A x[kChunk<A>], y[kChunk<A>], e[kVectors][kChunk<A>];

  DETPROBE_FN Elements(const Job& job, const Chunk<A>& c, int64_t i) {
    if (R::kX) c.load_x(job.type, job.x, x);
    if (R::kY) c.load_y(job.type, job.y, y);
    DETPROBE_UNROLL
    for (int k = 0; k < kVectors; ++k) {
      if (!(R::kE >> k & 1)) continue;
      const A* from = static_cast<const A*>(job.e[k]);
      const A constant = static_cast<A>(job.e_constant[k]);
      DETPROBE_UNROLL
      for (int u = 0; u < kChunk<A>; ++u) e[k][u] = from && u < c.live ? from[i + u * Step] : constant;
    }
  }
  template <class F>
  DETPROBE_FN A at(int u, const F& f) const {
    A each[kVectors];
    DETPROBE_UNROLL
    for (int k = 0; k < kVectors; ++k) {
      if (R::kE >> k & 1) each[k] = e[k][u];
    }
    return f(R::kX ? x[u] : A{}, R::kY ? y[u] : A{}, each);
  }
};

}  // namespace detprobe::cuda
