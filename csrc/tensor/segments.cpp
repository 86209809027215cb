// Segments that lie in a row, and histograms. Orders and formulas: csrc/README.md.
#include <ATen/Dispatch.h>
#include <ATen/ops/_assert_async.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>

#include "destinations.h"

namespace detprobe {
namespace {

using Maybe = std::optional<Tensor>;

void check_offsets(const Tensor& offsets, int64_t n) {
  TORCH_CHECK(offsets.dim() == 1 && offsets.numel() >= 1, "segment_reduce: offsets: expected [segments + 1], got ",
              offsets.sizes());
  if (!offsets.is_cpu()) {
    at::_assert_async(offsets.diff().ge(0).all().logical_and_(offsets[0].ge(0)).logical_and_(offsets[-1].le(n)));
    return;
  }
  const int64_t* at = offsets.const_data_ptr<int64_t>();
  for (int64_t s = 0; s < offsets.numel(); ++s) {
    TORCH_CHECK(at[s] >= (s == 0 ? 0 : at[s - 1]) && at[s] <= n,
                "segment_reduce: offsets: expected ascending numbers from 0 to ", n, ", got ", at[s], " at position ",
                s);
  }
}

// How many records each of `bins` destinations has; a key of `bins` counts nowhere.
Tensor counted(const Tensor& keys, int64_t bins) {
  return at::zeros({bins + 1}, keys.options()).scatter_add_(0, keys, at::ones_like(keys)).narrow(0, 0, bins);
}

Tensor weighed(const char* op, const Tensor& keys, const Tensor& weight, int64_t bins) {
  Destinations to = destinations(op, keys, bins, false, bins);
  const Tensor out = at::zeros({bins}, weight.options());
  Tensor flat = weight.reshape({-1});
  fold_into(out, 1, 1, to, records_of(flat, 0, 1), {});
  return out;
}

struct Range {
  double lo, hi;
};

// Of the contract: what is given, or else what x spans; apart where they meet.
Range range_of(const char* op, const Tensor& x, bool of_x, double lo, double hi, double apart) {
  const at::ScalarType acc = acc_type(x.scalar_type());
  if (of_x) {
    lo = x.numel() ? x.min().item<double>() : 0;
    hi = x.numel() ? x.max().item<double>() : 1;
  }
  lo = round_to(acc, lo), hi = round_to(acc, hi);
  if (lo == hi) lo = round_to(acc, lo - apart), hi = round_to(acc, hi + apart);
  const double width = round_to(acc, hi - lo);
  TORCH_CHECK(lo <= hi && std::isfinite(lo) && std::isfinite(hi) && std::isfinite(width), op,
              ": expected a range of finite numbers, the first not above the second, got ", lo, " to ", hi);
  return {lo, hi};
}

// A number on the device of x, so that a division is one: torch multiplies by the reciprocal of a host's number.
Tensor number(const Tensor& x, double value) { return at::full({}, value, x.options()); }

}  // namespace

Tensor segment_reduce(const Tensor& x, const Tensor& bounds, Reduce reduce, double empty) {
  TORCH_CHECK(x.dim() >= 1, "segment_reduce: expected at least one dimension, got a number");
  const Tensor offsets = bounds.to(at::kLong).contiguous();
  check_offsets(offsets, x.size(0));
  Destinations to;
  to.size = offsets.numel() - 1;
  to.count = x.size(0);
  to.plan.offsets = offsets;
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes[0] = to.size;
  const Tensor out = at::full(sizes, empty, x.options());
  Folding how;
  how.divided = reduce == Reduce::mean;
  switch (reduce) {
    case Reduce::sum:
    case Reduce::mean: how.start = Start::zero; break;
    case Reduce::amax: how.fold = Fold::amax, how.start = Start::first; break;
    case Reduce::amin: how.fold = Fold::amin, how.start = Start::first; break;
    case Reduce::prod: how.fold = Fold::prod, how.start = Start::first; break;
  }
  Tensor rows = x;
  int64_t columns = 1;
  for (int64_t d = 1; d < x.dim(); ++d) columns *= x.size(d);
  const Records source = records_of(rows, 0, 1);
  fold_into(out, 1, columns, to, source, how);
  return out;
}

Tensor bincount(const Tensor& x, const Maybe& weights, int64_t minlength) {
  const Tensor keys = x.to(at::kLong);
  int64_t size = 0;
  if (keys.numel()) {
    const int64_t low = keys.min().item<int64_t>();
    TORCH_CHECK(low >= 0, "bincount: expected numbers that are not negative, got ", low);
    size = keys.max().item<int64_t>() + 1;
  }
  size = std::max(size, minlength);
  if (!weights) return counted(keys, size);
  return weighed("bincount", keys, weights->scalar_type() == at::kFloat ? *weights : weights->to(at::kDouble), size);
}

Tensor histc(const Tensor& x, int64_t bins, const at::Scalar& low, const at::Scalar& high) {
  const at::ScalarType acc = acc_type(x.scalar_type());
  const Tensor z = to_acc(x, x.scalar_type()).view({-1});
  const double from = round_to(acc, low.toDouble()), to = round_to(acc, high.toDouble());
  const Range range = range_of("histc", z, from == to, from, to, 1);
  const Tensor lo = number(z, range.lo), hi = number(z, range.hi), b = number(z, static_cast<double>(bins));
  const Tensor inside = z.ge(lo).logical_and_(z.le(hi));
  const Tensor t = z.sub(lo).mul_(b).div_(hi.sub(lo));
  const Tensor below = t.lt(b).logical_and_(inside);
  Tensor bin = at::where(below, t, number(z, 0)).to(at::kLong).clamp_max_(bins - 1);
  bin = at::where(below, bin, bins - 1).masked_fill_(inside.logical_not(), bins);
  return rounded(counted(bin, bins).to(acc), x.scalar_type());
}

Tensor histogram_edges(const Tensor& x, int64_t bins, std::optional<at::ArrayRef<double>> given) {
  const at::ScalarType acc = acc_type(x.scalar_type());
  const Tensor z = to_acc(x, x.scalar_type());
  const Range range = given ? range_of("histogram", z, false, (*given)[0], (*given)[1], 0.5)
                            : range_of("histogram", z, true, 0, 0, 0.5);
  const Tensor lo = number(z, range.lo), hi = number(z, range.hi);
  const Tensor step = hi.sub(lo).div(number(z, static_cast<double>(bins)));
  const Tensor i = at::arange(bins + 1, z.options().dtype(at::kLong)), left = i.neg().add_(bins);
  const Tensor rising = step.mul(i.to(acc)).add_(lo), falling = hi.sub(step.mul(left.to(acc)));
  return at::where(i.lt((bins + 1) / 2), rising, falling);
}

Tensor histogram(const Tensor& x, const Tensor& given, const Maybe& weight, bool density) {
  const Tensor flat = to_acc(x, x.scalar_type()).view({-1}), edges = to_acc(given, x.scalar_type());
  const int64_t bins = edges.numel() - 1;
  const Tensor inside = flat.ge(edges[0]).logical_and_(flat.le(edges[-1]));
  const Tensor bin = at::searchsorted(edges, flat, false, /*right=*/true)
                         .clamp_max_(bins)
                         .sub_(1)
                         .masked_fill_(inside.logical_not(), bins);
  Tensor h = weight ? weighed("histogram", bin, to_acc(*weight, x.scalar_type()), bins)
                    : counted(bin, bins).to(flat.scalar_type());
  if (density) {
    h = h.div(Call(Op::Sum, h, std::nullopt).reduce(false));
    h = h.div(edges.narrow(0, 1, bins).sub(edges.narrow(0, 0, bins)));
    h.masked_fill_(h.isnan(), std::numeric_limits<double>::quiet_NaN());
  }
  return rounded(h, x.scalar_type());
}

namespace {

Tensor reduce_segments(const Tensor& x, const Tensor& offsets, c10::string_view reduce, double empty) {
  return segment_reduce(x, offsets, reduce_of(reduce), empty);
}

}  // namespace

static void register_segments(torch::Library& m) {
  m.impl("segment_reduce", reduce_segments);
  m.impl("bincount", bincount);
  m.impl("histc", histc);
  m.impl("histogram", histogram);
  m.impl("histogram_edges", histogram_edges);
}

}  // namespace detprobe

DETPROBE_REGISTER(register_segments)
