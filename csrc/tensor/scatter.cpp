// index_add, scatter_add, scatter_reduce, put, index_copy and scatter: what a destination is, and what its
// records are. Orders: DSEG-1 of csrc/README.md.
//
// Integers are sums without rounding, whoever computes them, so aten's own ops do those.
#include "scatter.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/take.h>
#include <ATen/ops/zeros_like.h>

#include "destinations.h"
#include "writes.h"

namespace detprobe {
namespace {

Tensor at_least_1d(const Tensor& t) { return t.dim() ? t : t.unsqueeze(0); }

double alpha_for(const Tensor& x, const at::Scalar& alpha) {
  return round_to(acc_type(x.scalar_type()), alpha.toDouble());
}

// How many records the destination with most of them has.
int64_t fullest(const Plan& plan) {
  const int64_t* at = plan.offsets.const_data_ptr<int64_t>();
  int64_t most = 0;
  for (int64_t row = 1; row < plan.offsets.numel(); ++row) most = std::max(most, at[row] - at[row - 1]);
  return most;
}

// A sum into one column takes its records as they come, faster than in the order of a plan, but for a hot row.
Destinations destinations_of(const char* op, const Tensor& index, const Plan& plan, const Tensor& x, int64_t dim,
                             const Folding& how) {
  const int64_t size = x.size(dim);
  if (!plan.defined()) return destinations(op, index, size);
  if (!index.is_cpu() || x.numel() != size || !needs_no_sort(x, how)) return destinations(plan, size);
  const int64_t most = fullest(plan);
  if (4 * most > index.numel() && most > kChunk) return destinations(plan, size);
  Destinations to = destinations(op, index, size);
  to.is_sparse = most <= kChunk;
  return to;
}

// Records that are slices along `dim`, into x: the shapes fit but along dim.
void fold_slices(const Tensor& x, int64_t dim, Destinations& to, Tensor source, const Folding& how) {
  side_by_side(x, [&](const Tensor& out) {
    const auto sizes = out.sizes();
    fold_into(out, product(sizes.slice(0, dim)), product(sizes.slice(dim + 1)), to, records_of(source, dim, 1), how);
  });
}

void check_slices(const char* op, const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  TORCH_CHECK(index.dim() <= 1, op, ": index: expected one dimension, got ", index.dim());
  TORCH_CHECK(source.dim() == x.dim() && source.size(dim) == index.numel(), op, ": source: expected ", x.dim(),
              " dimensions, with size ", index.numel(), " at ", dim, ", got ", source.sizes());
  for (int64_t d = 0; d < x.dim(); ++d) {
    TORCH_CHECK(d == dim || source.size(d) == x.size(d), op, ": source: expected the sizes of x, ", x.sizes(),
                ", but along ", dim, ", got ", source.sizes());
  }
}

Fold fold_of(Reduce reduce) {
  switch (reduce) {
    case Reduce::prod: return Fold::prod;
    case Reduce::amax: return Fold::amax;
    case Reduce::amin: return Fold::amin;
    default: return Fold::sum;
  }
}

const char* name_of(Reduce reduce) {
  static const char* const names[] = {"sum", "prod", "mean", "amax", "amin"};
  return names[static_cast<int64_t>(reduce)];
}

// Every position of `index` along `dim` has the same rows in all other dimensions, and they are whole.
bool is_rows(const Tensor& x, int64_t dim, const Tensor& index) {
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (d == dim) continue;
    if (index.size(d) != x.size(d) || (index.stride(d) != 0 && index.size(d) != 1)) return false;
  }
  return true;
}

// The part of src that index speaks of.
Tensor covered(const Tensor& src, const Tensor& index) {
  Tensor part = src;
  for (int64_t d = 0; d < src.dim(); ++d) {
    if (src.size(d) != index.size(d)) part = part.narrow(d, 0, index.size(d));
  }
  return part;
}

// The logical place in x of each position of an index along `dim`, whose values are known to be in range.
Tensor places(const Tensor& x, int64_t dim, const Tensor& index) {
  const int64_t along = product(x.sizes().slice(dim + 1));
  Tensor place = along == 1 ? index.to(at::kLong) : index.to(at::kLong).mul(along);
  int64_t step = 1;
  for (int64_t d = x.dim() - 1; d >= 0; --d) {
    if (d != dim && index.size(d) > 1) {
      std::vector<int64_t> shape(index.dim(), 1);
      shape[d] = index.size(d);
      place = place.add(at::arange(index.size(d), place.options()).mul_(step).view(shape));
    }
    step *= x.size(d);
  }
  return place;
}

void reduce_integers(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src, Reduce reduce,
                     bool include_self) {
  as_integers(x, reduce == Reduce::mean, [&](const Tensor& own) {
    const Tensor from = src.to(own.scalar_type()), at = index.to(at::kLong);
    if (reduce != Reduce::mean) {
      own.scatter_reduce_(dim, at, from, name_of(reduce), include_self);
      return;
    }
    const Tensor counts = include_self ? at::ones_like(own) : at::zeros_like(own);
    counts.scatter_add_(dim, at, at::ones_like(at));
    own.scatter_reduce_(dim, at, from, "sum", include_self);
    own.copy_(own.div(counts.clamp_min(1), "floor"));
  });
}

}  // namespace

Reduce reduce_of(c10::string_view name) {
  for (const Reduce one : {Reduce::sum, Reduce::prod, Reduce::mean, Reduce::amax, Reduce::amin}) {
    if (name == name_of(one)) return one;
  }
  TORCH_CHECK(false, "reduce: expected sum, prod, mean, amax or amin, got ", std::string(name));
}

void index_add_(const Tensor& self, int64_t dim, const Tensor& index, const Tensor& added, const at::Scalar& alpha,
                const Plan& plan, bool fresh) {
  const Tensor x = at_least_1d(self), source = at_least_1d(added);
  dim = at::maybe_wrap_dim(dim, x.dim());
  check_pair("index_add", x, source);
  check_slices("index_add", x, dim, index, source);
  if (!is_float(x)) {
    check_range("index_add", index, x.size(dim), false);
    return as_integers(x, false, [&](const Tensor& own) {
      own.index_add_(dim, index.reshape({-1}), source.to(own.scalar_type()), alpha);
    });
  }
  Folding how;
  how.alpha = alpha_for(x, alpha);
  how.fresh = fresh;
  Destinations to = destinations_of("index_add", index, plan, x, dim, how);
  fold_slices(x, dim, to, source, how);
}

void scatter_reduce_(const Tensor& self, int64_t dim, const Tensor& places_of, const Tensor& from, Reduce reduce,
                     bool include_self, const Plan& plan, bool fresh) {
  const Tensor x = at_least_1d(self), index = at_least_1d(places_of), src = at_least_1d(from);
  dim = at::maybe_wrap_dim(dim, x.dim());
  check_pair("scatter_reduce", x, src);
  if (index.numel() == 0) return;
  TORCH_CHECK(index.dim() == x.dim() && src.dim() == x.dim(), "scatter_reduce: expected ", x.dim(),
              " dimensions, got index ", index.sizes(), " and src ", src.sizes());
  for (int64_t d = 0; d < x.dim(); ++d) {
    TORCH_CHECK(index.size(d) <= src.size(d) && (d == dim || index.size(d) <= x.size(d)),
                "scatter_reduce: index: expected no size above those of src ", src.sizes(), " and, but along ", dim,
                ", of x ", x.sizes(), ", got ", index.sizes());
  }
  if (!is_float(x)) {
    check_range("scatter_reduce", index, x.size(dim), false);
    return reduce_integers(x, dim, index, src, reduce, include_self);
  }
  Folding how;
  how.fold = fold_of(reduce);
  how.start = include_self ? Start::given : Start::first;
  how.divided = reduce == Reduce::mean;
  how.fresh = fresh;
  const Tensor records = covered(src, index);
  if (plan.defined() || is_rows(x, dim, index)) {
    const Tensor each = index.as_strided({index.size(dim)}, {index.stride(dim)});
    Destinations to = destinations_of("scatter_reduce", each, plan, x, dim, how);
    return fold_slices(x, dim, to, records, how);
  }
  if (x.dim() > 1) check_range("scatter_reduce", index, x.size(dim), false);
  Destinations to = x.dim() > 1 ? destinations("scatter_reduce", places(x, dim, index), x.numel())
                                : destinations("scatter_reduce", index, x.numel());
  side_by_side(x, [&](const Tensor& out) {
    Tensor flat = records.reshape({-1});
    fold_into(out, 1, 1, to, records_of(flat, 0, 1), how);
  });
}

void put_(const Tensor& x, const Tensor& index, const Tensor& source, bool accumulate) {
  check_pair("put", x, source);
  TORCH_CHECK(index.numel() == source.numel(), "put: source: expected ", index.numel(),
              " elements, as many as index, got ", source.numel());
  Destinations to = destinations("put", index, x.numel(), /*negative=*/true);
  if (to.count == 0) return;
  Tensor flat = source.reshape({-1});
  if (!accumulate) {
    x.put_(index, flat.index_select(0, last_of_each(to, x)).view(index.sizes()), false);
  } else if (!is_float(x)) {
    keyed(to);  // checks the index
    as_integers(x, false, [&](const Tensor& own) { own.put_(index, source.to(own.scalar_type()), true); });
  } else {
    side_by_side(x, [&](const Tensor& out) { fold_into(out, 1, 1, to, records_of(flat, 0, 1), {}); });
  }
}

void index_copy_(const Tensor& self, int64_t dim, const Tensor& index, const Tensor& copied) {
  const Tensor x = at_least_1d(self), source = at_least_1d(copied);
  dim = at::maybe_wrap_dim(dim, x.dim());
  check_pair("index_copy", x, source);
  check_slices("index_copy", x, dim, index, source);
  Destinations to = destinations("index_copy", index, x.size(dim));
  if (to.count == 0) return;
  x.index_copy_(dim, index.reshape({-1}).to(at::kLong), source.index_select(dim, last_of_each(to, x)));
}

void scatter_(const Tensor& self, int64_t dim, const Tensor& places_of, const Tensor& from) {
  const Tensor x = at_least_1d(self), index = at_least_1d(places_of), src = at_least_1d(from);
  dim = at::maybe_wrap_dim(dim, x.dim());
  check_pair("scatter", x, src);
  if (index.numel() == 0) return;
  check_range("scatter", index, x.size(dim), false);
  Destinations to = destinations("scatter", places(x, dim, index), x.numel());
  const Tensor records = covered(src, index).reshape({-1}).index_select(0, last_of_each(to, x));
  // torch's scatter takes 16 bits through float, which changes a NaN.
  const bool as_bits = x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
  (as_bits ? x.view(at::kShort) : x)
      .scatter_(dim, index.to(at::kLong), (as_bits ? records.view(at::kShort) : records).view(index.sizes()));
}

namespace {

Plan plan_of(at::TensorList tensors) {
  TORCH_CHECK(tensors.empty() || tensors.size() == 2, "plan: expected order and offsets, or nothing, got ",
              tensors.size(), " tensors");
  return tensors.empty() ? Plan{} : Plan{tensors[0], tensors[1]};
}

std::tuple<Tensor, Tensor> make_plan(const Tensor& index, int64_t size) {
  const Plan plan = index_plan(index, size);
  return {plan.order, plan.offsets};
}
Tensor index_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source, const at::Scalar& alpha,
                 at::TensorList plan) {
  Tensor out = x.clone();
  detprobe::index_add_(out, dim, index, source, alpha, plan_of(plan), /*fresh=*/true);
  return out;
}
Tensor scatter_reduce(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src, c10::string_view reduce,
                      bool include_self, at::TensorList plan) {
  Tensor out = x.clone();
  detprobe::scatter_reduce_(out, dim, index, src, reduce_of(reduce), include_self, plan_of(plan), /*fresh=*/true);
  return out;
}
Tensor put(const Tensor& x, const Tensor& index, const Tensor& source, bool accumulate) {
  Tensor out = x.clone();
  detprobe::put_(out, index, source, accumulate);
  return out;
}
Tensor index_copy(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  Tensor out = x.clone();
  detprobe::index_copy_(out, dim, index, source);
  return out;
}
Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  Tensor out = x.clone();
  detprobe::scatter_(out, dim, index, src);
  return out;
}

// Copies, which no order can change.
Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index, at::TensorList) {
  return at::index_select(x, dim, index);
}
Tensor gather(const Tensor& x, int64_t dim, const Tensor& index, at::TensorList) { return at::gather(x, dim, index); }
Tensor take(const Tensor& x, const Tensor& index) { return at::take(x, index); }

}  // namespace

static void register_scatter(torch::Library& m) {
  m.impl("index_plan", make_plan);
  m.impl("index_add", index_add);
  m.impl("scatter_reduce", scatter_reduce);
  m.impl("put", put);
  m.impl("index_copy", index_copy);
  m.impl("scatter", scatter);
  m.impl("index_select", index_select);
  m.impl("gather", gather);
  m.impl("take", take);
}

}  // namespace detprobe

DETPROBE_REGISTER(register_scatter)
