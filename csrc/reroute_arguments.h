// What the wrappers ask of arguments: is there a kernel of ours for them, and would torch's own repeat?
//
// Arguments that do not fit together are torch's to refuse, in its words: so whatever is not understood goes to torch.
#pragma once

#include <ATen/Context.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/view_as_real.h>

#include "reroute.h"

namespace detprobe::reroute {

inline bool is_index(const Tensor& t) { return t.scalar_type() == at::kLong || t.scalar_type() == at::kInt; }
inline bool is_long(const Tensor& t) { return t.scalar_type() == at::kLong; }

template <class... T>
bool together(const Tensor& x, const T&... others) {
  return ((others.defined() && others.device() == x.device() && others.layout() == at::kStrided) && ...);
}
template <class... T>
bool same_type(const Tensor& x, const T&... others) {
  return ((others.scalar_type() == x.scalar_type()) && ...);
}

// float16 to float64, in which a sum depends on its order and for which there are kernels.
inline bool is_summed(const Tensor& x) {
  const at::ScalarType t = x.scalar_type();
  return t == at::kFloat || t == at::kDouble || t == at::kHalf || t == at::kBFloat16;
}
// Integers are exact in any order, and torch's own kernels do them.
inline bool is_exact(const Tensor& x) { return at::isIntegralType(x.scalar_type(), /*includeBool=*/true); }

// A sum into x: of numbers that have an order, by a kernel that adds in the order of arrival (on CUDA all of them do;
// on the CPU those for which `races_on_cpu`).
inline Verdict judge_sum(const Tensor& x, bool races_on_cpu = false) {
  if (!has_data(x) || is_exact(x)) return Verdict::torch;
  if (is_summed(x) && has_kernels(x)) return Verdict::ours;
  return x.is_cpu() && !races_on_cpu ? Verdict::torch : Verdict::uncovered;
}

// A copy into x, where one of several records for a place stays: any type whose elements can be moved.
inline Verdict judge_copy(const Tensor& x) {
  if (!has_data(x)) return Verdict::torch;
  return has_kernels(x) && x.element_size() <= 16 ? Verdict::ours : Verdict::uncovered;
}

// The same memory as a type that every kernel moves; x itself where it is one. torch's float8 and its unsigned types
// above 8 bits have few kernels.
inline Tensor as_movable(const Tensor& x) {
  if (is_summed(x) || is_exact(x) || at::isComplexType(x.scalar_type())) {
    const at::ScalarType t = x.scalar_type();
    if (t != at::kUInt16 && t != at::kUInt32 && t != at::kUInt64) return x;
  }
  switch (x.element_size()) {
    case 1: return x.view(at::kByte);
    case 2: return x.view(at::kShort);
    case 4: return x.view(at::kInt);
    case 8: return x.view(at::kLong);
    default: return x;
  }
}

// torch refuses to write into x while it reads `t` from the same memory, and so does this; where it cannot tell (and
// neither can this), it reads a copy.
inline Tensor apart(const Tensor& x, const Tensor& t) {
  at::assert_no_overlap(x, t);
  return t.is_alias_of(x) ? t.clone() : t;
}

inline bool overlaps_itself(const Tensor& x) { return at::has_internal_overlap(x) == at::MemOverlap::Yes; }

// A 0-dimensional tensor counts as [1].
inline Tensor at_least_1d(const Tensor& t) { return t.dim() == 0 ? t.unsqueeze(0) : t; }

inline bool fits_out(const Tensor& x, const Tensor& out) {
  return out.defined() && out.device() == x.device() && out.scalar_type() == x.scalar_type() &&
         out.layout() == at::kStrided;
}

// `result` into the out of an overload.
inline Tensor& give(const Tensor& result, Tensor& out) {
  if (out.is_same(result)) return out;
  at::native::resize_output(out, result.sizes());
  out.copy_(result);
  return out;
}

// The functional, the in-place and the out overload of an op that writes into its first argument. `Core` has
// judge(x, args...) and write(x, fresh, args...); what is fresh belongs to nobody yet, and an error may leave it half
// written.
template <class Core>
struct Functional {
  template <class... A>
  static Verdict judge(const Tensor& self, const A&... args) {
    return Core::judge(self, args...);
  }
  template <class... A>
  static Tensor run(const Tensor& self, const A&... args) {
    // In this memory format because torch's result has it: a compiled graph may rely on the strides.
    Tensor out = self.clone(at::MemoryFormat::Contiguous);
    Core::write(out, true, args...);
    return out;
  }
};

template <class Core>
struct InPlace {
  template <class... A>
  static Verdict judge(const Tensor& self, const A&... args) {
    return overlaps_itself(self) ? Verdict::torch : Core::judge(self, args...);
  }
  template <class... A>
  static Tensor& run(Tensor& self, const A&... args) {
    Core::write(self, false, args...);
    return self;
  }
};

template <class Core>
struct Out {
  template <class... A>
  static Verdict judge(const Tensor& self, const A&... args) {
    return split(
        [&](const Tensor& out, const auto&... rest) {
          const Verdict verdict = Core::judge(self, rest...);
          return verdict == Verdict::ours && (!fits_out(self, out) || overlaps_itself(out)) ? Verdict::torch : verdict;
        },
        args...);
  }
  template <class... A>
  static Tensor& run(const Tensor& self, A&&... args) {
    return split(
        [&](Tensor& out, const auto&... rest) -> Tensor& { return give(Functional<Core>::run(self, rest...), out); },
        args...);
  }

 private:
  // f(last, all others...)
  template <class F, class... A>
  static decltype(auto) split(const F& f, A&... args) {
    auto all = std::tie(args...);
    return [&]<size_t... I>(std::index_sequence<I...>) -> decltype(auto) {
      return f(std::get<sizeof...(A) - 1>(all), std::get<I>(all)...);
    }(std::make_index_sequence<sizeof...(A) - 1>());
  }
};

}  // namespace detprobe::reroute
