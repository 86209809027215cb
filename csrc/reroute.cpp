// The wrappers around index_add, scatter, index_put, put and index_copy, and what aten calls for their gradients.
//
// index_put, index_put_ and _unsafe_index_put end in _index_put_impl_, put in put_; the gradients of index, take,
// index_select and gather are _index_put_impl_, put_, index_add_ and scatter_add. Those are wrapped, and no op that
// only calls them.
#include "reroute.h"

#include <ATen/WrapDimUtils.h>
#include <ATen/ops/_index_put_impl_ops.h>
#include <ATen/ops/index_add_ops.h>
#include <ATen/ops/index_copy_ops.h>
#include <ATen/ops/put_ops.h>
#include <ATen/ops/scatter_add_ops.h>
#include <ATen/ops/scatter_ops.h>
#include <ATen/ops/scatter_reduce_ops.h>

#include "reroute_arguments.h"
#include "tensor/scatter.h"

namespace detprobe::reroute {
namespace {

bool wraps(int64_t& dim, int64_t dims) {
  if (dim < -dims || dim >= dims) return false;
  if (dim < 0) dim += dims;
  return true;
}

bool same_but(at::IntArrayRef a, at::IntArrayRef b, int64_t dim) {
  if (a.size() != b.size()) return false;
  for (int64_t d = 0; d < static_cast<int64_t>(a.size()); ++d) {
    if (d != dim && a[d] != b[d]) return false;
  }
  return true;
}

struct IndexAdd {
  static Verdict judge(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source,
                       const at::Scalar& alpha) {
    if (!together(x, index, source) || !same_type(x, source) || !is_index(index) || index.dim() > 1 ||
        source.dim() != x.dim() || alpha.isComplex() || !wraps(dim, std::max<int64_t>(x.dim(), 1)) ||
        !same_but(x.sizes(), source.sizes(), dim) || index.numel() != (x.dim() ? source.size(dim) : 1)) {
      return Verdict::torch;
    }
    return judge_sum(x);
  }
  static void write(const Tensor& x, bool fresh, int64_t dim, const Tensor& index, const Tensor& source,
                    const at::Scalar& alpha) {
    detprobe::index_add_(x, dim, apart(x, index), apart(x, source), alpha, {}, fresh);
  }
};

// Shapes of the scatter ops, and an index that is not empty.
bool scatters(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  if (!together(x, index, src) || !same_type(x, src) || !is_index(index) || index.numel() == 0) return false;
  const int64_t dims = std::max<int64_t>(x.dim(), 1);
  if (std::max<int64_t>(index.dim(), 1) != dims || std::max<int64_t>(src.dim(), 1) != dims || !wraps(dim, dims)) {
    return false;
  }
  const auto size = [](const Tensor& t, int64_t d) { return t.dim() ? t.size(d) : 1; };
  for (int64_t d = 0; d < dims; ++d) {
    if (size(index, d) > size(src, d) || (d != dim && size(index, d) > size(x, d))) return false;
  }
  return true;
}

struct ScatterAdd {
  static Verdict judge(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
    return scatters(x, dim, index, src) ? judge_sum(x) : Verdict::torch;
  }
  static void write(const Tensor& x, bool fresh, int64_t dim, const Tensor& index, const Tensor& src) {
    detprobe::scatter_reduce_(x, dim, apart(x, index), apart(x, src), Reduce::sum, true, {}, fresh);
  }
};

struct ScatterReduce {
  static bool known(c10::string_view reduce) {
    return reduce == "sum" || reduce == "prod" || reduce == "mean" || reduce == "amax" || reduce == "amin";
  }
  static Verdict judge(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src, c10::string_view reduce,
                       bool) {
    return known(reduce) && scatters(x, dim, index, src) ? judge_sum(x) : Verdict::torch;
  }
  static void write(const Tensor& x, bool fresh, int64_t dim, const Tensor& index, const Tensor& src,
                    c10::string_view reduce, bool include_self) {
    detprobe::scatter_reduce_(x, dim, apart(x, index), apart(x, src), reduce_of(reduce), include_self, {}, fresh);
  }
};

struct Scatter {
  static Verdict judge(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
    return scatters(x, dim, index, src) ? judge_copy(x) : Verdict::torch;
  }
  static void write(const Tensor& x, bool, int64_t dim, const Tensor& index, const Tensor& src) {
    detprobe::scatter_(as_movable(x), dim, apart(x, index), as_movable(apart(x, src)));
  }
};

// The older spelling of a scatter that accumulates: "add" and "multiply".
struct ScatterWith {
  static Verdict judge(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src, c10::string_view reduce) {
    const bool known = reduce == "add" || reduce == "multiply";
    return known && scatters(x, dim, index, src) ? judge_sum(x) : Verdict::torch;
  }
  static void write(const Tensor& x, bool fresh, int64_t dim, const Tensor& index, const Tensor& src,
                    c10::string_view reduce) {
    detprobe::scatter_reduce_(x, dim, apart(x, index), apart(x, src), reduce == "add" ? Reduce::sum : Reduce::prod,
                              true);
  }
};

struct IndexCopy {
  static Verdict judge(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
    if (!together(x, index, source) || !same_type(x, source) || !is_long(index) || index.dim() > 1 ||
        index.numel() == 0 || (x.dim() > 1 && source.dim() != x.dim()) || (x.dim() <= 1 && source.dim() > 1)) {
      return Verdict::torch;
    }
    const Tensor a = at_least_1d(x), b = at_least_1d(source);
    if (!wraps(dim, a.dim()) || !same_but(a.sizes(), b.sizes(), dim) || b.size(dim) != index.numel()) {
      return Verdict::torch;
    }
    return judge_copy(x);
  }
  static void write(const Tensor& x, bool, int64_t dim, const Tensor& index, const Tensor& source) {
    detprobe::index_copy_(as_movable(at_least_1d(x)), dim, apart(x, index), as_movable(at_least_1d(apart(x, source))));
  }
};

struct IndexPut {
  using Indices = c10::List<std::optional<Tensor>>;

  static bool is_mask(const Tensor& t) { return t.scalar_type() == at::kBool || t.scalar_type() == at::kByte; }

  // One mask alone names every place once.
  static bool repeats_nothing(const Indices& indices) {
    int masks = 0, others = 0;
    for (const std::optional<Tensor>& one : indices) {
      if (one && one->defined()) ++(is_mask(*one) ? masks : others);
    }
    return masks == 1 && others == 0;
  }

  static Verdict judge(const Tensor& x, const Indices& indices, const Tensor& values, bool accumulate, bool) {
    if (!values.defined() || !same_type(x, values) || values.layout() != at::kStrided ||
        (values.device() != x.device() && values.dim() != 0)) {
      return Verdict::torch;
    }
    int64_t dims = 0, taken = 0;
    for (const std::optional<Tensor>& one : indices) {
      if (!one || !one->defined()) {
        ++dims;
        continue;
      }
      if (one->device() != x.device() && !one->is_cpu()) return Verdict::torch;
      if (!is_mask(*one) && !is_index(*one)) return Verdict::torch;
      dims += is_mask(*one) ? one->dim() : 1;
      ++taken;
    }
    if (taken == 0 || dims > x.dim() || x.numel() == 0) return Verdict::torch;
    if (!accumulate && (values.numel() == 1 || repeats_nothing(indices))) return Verdict::torch;
    const Verdict verdict = accumulate ? judge_sum(x) : judge_copy(x);
    return verdict == Verdict::ours && overlaps_itself(x) ? Verdict::uncovered : verdict;
  }

  static Tensor& run(Tensor& x, const Indices& indices, const Tensor& values, bool accumulate, bool) {
    Indices here;
    here.reserve(indices.size());
    for (const std::optional<Tensor>& one : indices) {
      if (one && one->defined()) {
        here.push_back(apart(x, one->device() == x.device() ? *one : one->to(x.device())));
      } else {
        here.push_back(std::nullopt);
      }
    }
    const Tensor from = apart(x, values.device() == x.device() ? values : values.to(x.device()));
    if (accumulate) {
      detprobe::index_put_(x, here, from, true);
    } else {
      detprobe::index_put_(as_movable(x), here, as_movable(from), false);
    }
    return x;
  }
};

struct Put {
  static Verdict judge(const Tensor& x, const Tensor& index, const Tensor& source, bool accumulate) {
    if (!together(x, index, source) || !same_type(x, source) || !is_long(index) || index.numel() != source.numel() ||
        index.numel() == 0 || x.numel() == 0 || overlaps_itself(x)) {
      return Verdict::torch;
    }
    // torch refuses put_ of integers as well, where its flag is set.
    if (accumulate && is_exact(x) && has_kernels(x) && at::globalContext().deterministicAlgorithms()) {
      return Verdict::ours;
    }
    return accumulate ? judge_sum(x) : judge_copy(x);
  }
  static Tensor& run(Tensor& x, const Tensor& index, const Tensor& source, bool accumulate) {
    const Tensor at = apart(x, index), from = apart(x, source);
    if (accumulate && is_summed(x)) {
      detprobe::put_(x, at, from, true);
      return x;
    }
    // As an index_put of x in a row, since aten's put_ is refused where torch's flag is set.
    const Tensor row = x.contiguous();
    detprobe::index_put_(as_movable(row.view({-1})), {at.reshape({-1})}, as_movable(from.reshape({-1})), accumulate);
    if (!row.is_same(x)) x.copy_(row);
    return x;
  }
};

template <class Core, class Op, class OpInPlace, class OpOut>
void wrap_three(torch::Library& m) {
  wrap<Op, Functional<Core>>(m);
  wrap<OpInPlace, InPlace<Core>>(m);
  wrap<OpOut, Out<Core>>(m);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, BackendSelect, m) {
  namespace ops = at::_ops;
  wrap_three<IndexAdd, ops::index_add, ops::index_add_, ops::index_add_out>(m);
  wrap_three<ScatterAdd, ops::scatter_add, ops::scatter_add_, ops::scatter_add_out>(m);
  wrap_three<ScatterReduce, ops::scatter_reduce_two, ops::scatter_reduce__two, ops::scatter_reduce_two_out>(m);
  wrap_three<Scatter, ops::scatter_src, ops::scatter__src, ops::scatter_src_out>(m);
  wrap_three<ScatterWith, ops::scatter_reduce, ops::scatter__reduce, ops::scatter_reduce_out>(m);
  wrap_three<IndexCopy, ops::index_copy, ops::index_copy_, ops::index_copy_out>(m);
  wrap<ops::_index_put_impl_, IndexPut>(m);
  wrap<ops::put_, Put>(m);
}

}  // namespace detprobe::reroute
