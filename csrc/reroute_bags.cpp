// The wrappers around embedding backward, embedding bags, bincount, histograms and segments.
//
// An embedding bag gives four tensors to its own backward. The three of integers stay torch's, asked of one column of
// weight. The largest of a bag is torch's altogether, which repeats: its gradient goes where torch says that it is
// from.
#include "reroute.h"

#include <ATen/ops/_embedding_bag_dense_backward_ops.h>
#include <ATen/ops/_embedding_bag_forward_only_ops.h>
#include <ATen/ops/_embedding_bag_ops.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bincount_ops.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding_dense_backward_ops.h>
#include <ATen/ops/histc_ops.h>
#include <ATen/ops/histogram_ops.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/segment_reduce_ops.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "reroute_arguments.h"
#include "tensor/scatter.h"

namespace detprobe::reroute {
namespace {

using Maybe = std::optional<Tensor>;

constexpr int64_t kSum = 0, kMean = 1, kMax = 2;  // aten's modes of embedding_bag

bool given(const Maybe& t) { return t && t->defined(); }

struct EmbeddingBackward {
  static Verdict judge(const Tensor& g, const Tensor& index, const c10::SymInt& rows, const c10::SymInt& padding_idx,
                       bool) {
    if (!together(g, index) || !is_index(index) || index.numel() == 0 || g.dim() == 0 || rows.is_symbolic() ||
        padding_idx.is_symbolic() || g.numel() == 0 || g.numel() != index.numel() * g.size(-1)) {
      return Verdict::torch;
    }
    return judge_sum(g);
  }
  static Tensor run(const Tensor& g, const Tensor& index, const c10::SymInt& rows, const c10::SymInt& padding_idx,
                    bool scale_grad_by_freq) {
    return detprobe::embedding_backward(g, index, rows.expect_int(), padding_idx.expect_int(), scale_grad_by_freq);
  }
};

// Op: _embedding_bag or _embedding_bag_forward_only.
template <class Op>
struct Bag {
  static Verdict judge(const Tensor& weight, const Tensor& index, const Tensor& offsets, bool, int64_t mode, bool,
                       const Maybe& samples, bool include_last_offset, int64_t) {
    if (!together(weight, index, offsets) || (mode != kSum && mode != kMean) || weight.dim() != 2 ||
        weight.numel() == 0 || !is_index(index) || index.dim() != 1 || index.numel() == 0 || !is_index(offsets) ||
        offsets.dim() != 1 || offsets.numel() <= include_last_offset) {
      return Verdict::torch;
    }
    if (given(samples) && (mode != kSum || !together(weight, *samples) || !same_type(weight, *samples) ||
                           samples->sizes() != index.sizes())) {
      return Verdict::torch;
    }
    return is_summed(weight) && has_kernels(weight) ? Verdict::ours : Verdict::torch;
  }
  static std::tuple<Tensor, Tensor, Tensor, Tensor> run(const Tensor& weight, const Tensor& index,
                                                        const Tensor& offsets, bool scale_grad_by_freq, int64_t mode,
                                                        bool sparse, const Maybe& samples, bool include_last_offset,
                                                        int64_t padding_idx) {
    auto [unused, bag_of_each, sizes, largest] = Op::call(weight.narrow(1, 0, 1), index, offsets, scale_grad_by_freq,
                                                          mode, sparse, samples, include_last_offset, padding_idx);
    Tensor out = detprobe::embedding_bag(weight, index, offsets, mode, given(samples) ? samples : std::nullopt,
                                         include_last_offset, padding_idx);
    return {std::move(out), bag_of_each, sizes, largest};
  }
};

struct BagBackward {
  static Verdict judge(const Tensor& g, const Tensor& index, const Tensor& bag_of_each, const Tensor& sizes,
                       const Tensor& largest, const c10::SymInt& rows, bool scale_grad_by_freq, int64_t mode,
                       const Maybe& samples, int64_t) {
    if (!together(g, index, bag_of_each, sizes, largest) || g.dim() != 2 || g.numel() == 0 || !is_index(index) ||
        index.dim() != 1 || index.numel() == 0 || !is_index(bag_of_each) || rows.is_symbolic()) {
      return Verdict::torch;
    }
    const bool fits = mode == kMax ? !scale_grad_by_freq && is_index(largest) && largest.sizes() == g.sizes() &&
                                         sizes.numel() == g.size(0)
                                   : (mode == kSum || mode == kMean) && bag_of_each.sizes() == index.sizes();
    if (!fits || (given(samples) && (!together(g, *samples) || !same_type(g, *samples) || mode != kSum))) {
      return Verdict::torch;
    }
    return judge_sum(g);
  }
  static Tensor run(const Tensor& g, const Tensor& index, const Tensor& bag_of_each, const Tensor& sizes,
                    const Tensor& largest, const c10::SymInt& rows, bool scale_grad_by_freq, int64_t mode,
                    const Maybe& samples, int64_t padding_idx) {
    const int64_t count = rows.expect_int();
    if (mode == kMax) {
      // An empty bag names row 0 on the CPU and -1 on CUDA: one more row takes it, and is left behind.
      const Tensor row = largest.to(at::kLong).masked_fill(sizes.eq(0).unsqueeze(1), count);
      const Tensor sums = at::zeros({count + 1, g.size(1)}, g.options());
      scatter_reduce_(sums, 0, row.masked_fill_(row.lt(0), count), g, Reduce::sum, true);
      return sums.narrow(0, 0, count).contiguous();
    }
    // Where the bags begin, from the bag of each record, which ascends.
    const Tensor bags = at::arange(g.size(0) + 1, bag_of_each.options());
    const Tensor offsets = at::searchsorted(bag_of_each.contiguous(), bags);
    const Tensor shape_of_weight = at::zeros({1, 1}, g.options()).expand({count, g.size(1)});
    return std::get<0>(detprobe::embedding_bag_backward(g, shape_of_weight, index, offsets, mode,
                                                        given(samples) ? samples : std::nullopt,
                                                        /*include_last_offset=*/true, padding_idx, scale_grad_by_freq));
  }
};

struct Bincount {
  static Verdict judge(const Tensor& x, const Maybe& weights, const c10::SymInt& minlength) {
    if (!given(weights) || !together(x, *weights) || x.dim() != 1 || x.numel() == 0 || !is_exact(x) ||
        x.scalar_type() == at::kBool || weights->sizes() != x.sizes() || minlength.is_symbolic() ||
        minlength.expect_int() < 0 || at::isComplexType(weights->scalar_type()) || !has_data(x)) {
      return Verdict::torch;
    }
    // Whatever the weights are, torch adds floating numbers.
    return has_kernels(x) ? Verdict::ours : x.is_cpu() ? Verdict::torch : Verdict::uncovered;
  }
  static Tensor run(const Tensor& x, const Maybe& weights, const c10::SymInt& minlength) {
    return detprobe::bincount(x, weights, minlength.expect_int());
  }
};

struct Histc {
  static Verdict judge(const Tensor& x, int64_t bins, const at::Scalar& low, const at::Scalar& high) {
    const bool fits = bins > 0 && !low.isComplex() && !high.isComplex();
    return fits && has_data(x) && is_summed(x) && has_kernels(x) ? Verdict::ours : Verdict::torch;
  }
  static Tensor run(const Tensor& x, int64_t bins, const at::Scalar& low, const at::Scalar& high) {
    return detprobe::histc(x, bins, low, high);
  }
};

struct HistcOut {
  static Verdict judge(const Tensor& x, int64_t bins, const at::Scalar& low, const at::Scalar& high,
                       const Tensor& out) {
    return fits_out(x, out) ? Histc::judge(x, bins, low, high) : Verdict::torch;
  }
  static Tensor& run(const Tensor& x, int64_t bins, const at::Scalar& low, const at::Scalar& high, Tensor& out) {
    return give(detprobe::histc(x, bins, low, high), out);
  }
};

bool weighs(const Tensor& x, const Maybe& weight) {
  return !given(weight) || (together(x, *weight) && same_type(x, *weight) && weight->sizes() == x.sizes());
}

struct HistogramOfEdges {
  static Verdict judge(const Tensor& x, const Tensor& edges, const Maybe& weight, bool) {
    const bool fits = together(x, edges) && same_type(x, edges) && edges.dim() == 1 && edges.numel() >= 2;
    return fits && weighs(x, weight) && is_summed(x) && has_data(x) && has_kernels(x) ? Verdict::ours : Verdict::torch;
  }
  static std::tuple<Tensor, Tensor> run(const Tensor& x, const Tensor& edges, const Maybe& weight, bool density) {
    return {detprobe::histogram(x, edges, given(weight) ? weight : std::nullopt, density), edges.clone()};
  }
};

struct HistogramOfBins {
  using Range = std::optional<at::ArrayRef<double>>;
  static Verdict judge(const Tensor& x, int64_t bins, const Range& range, const Maybe& weight, bool) {
    const bool fits = bins > 0 && (!range || range->size() == 2);
    return fits && weighs(x, weight) && is_summed(x) && has_data(x) && has_kernels(x) ? Verdict::ours : Verdict::torch;
  }
  static std::tuple<Tensor, Tensor> run(const Tensor& x, int64_t bins, const Range& range, const Maybe& weight,
                                        bool density) {
    const Tensor edges = detprobe::histogram_edges(x, bins, range).to(x.scalar_type());
    return {detprobe::histogram(x, edges, given(weight) ? weight : std::nullopt, density), edges};
  }
};

// The overload of a histogram that writes into two tensors.
template <class Core>
struct HistogramOut {
  template <class A, class B, class C>
  static Verdict judge(const Tensor& x, const A& a, const B& b, const C& c, const Tensor& h, const Tensor& edges) {
    return fits_out(x, h) && fits_out(x, edges) ? Core::judge(x, a, b, c) : Verdict::torch;
  }
  template <class A, class B, class C, class D>
  static Verdict judge(const Tensor& x, const A& a, const B& b, const C& c, const D& d, const Tensor& h,
                       const Tensor& edges) {
    return fits_out(x, h) && fits_out(x, edges) ? Core::judge(x, a, b, c, d) : Verdict::torch;
  }
  template <class A, class B, class C>
  static std::tuple<Tensor&, Tensor&> run(const Tensor& x, const A& a, const B& b, const C& c, Tensor& h,
                                          Tensor& edges) {
    return both(Core::run(x, a, b, c), h, edges);
  }
  template <class A, class B, class C, class D>
  static std::tuple<Tensor&, Tensor&> run(const Tensor& x, const A& a, const B& b, const C& c, const D& d, Tensor& h,
                                          Tensor& edges) {
    return both(Core::run(x, a, b, c, d), h, edges);
  }

 private:
  static std::tuple<Tensor&, Tensor&> both(const std::tuple<Tensor, Tensor>& made, Tensor& h, Tensor& edges) {
    return {give(std::get<0>(made), h), give(std::get<1>(made), edges)};
  }
};

// Along the first dimension, without a start: what torch leaves to others stays with torch, whose kernels repeat.
struct SegmentReduce {
  static Verdict judge(const Tensor& x, c10::string_view reduce, const Maybe& lengths, const Maybe& index,
                       const Maybe& offsets, int64_t axis, bool, const std::optional<at::Scalar>& initial) {
    if (given(lengths) == given(offsets) || given(index) || axis != 0 || initial || x.dim() == 0 || x.numel() == 0 ||
        (reduce != "sum" && reduce != "mean" && reduce != "max" && reduce != "min")) {
      return Verdict::torch;
    }
    const Tensor& bounds = given(lengths) ? *lengths : *offsets;
    const bool fits = together(x, bounds) && is_index(bounds) && bounds.dim() == 1 && bounds.numel() >= 1;
    return fits && has_data(x) && is_summed(x) && has_kernels(x) ? Verdict::ours : Verdict::torch;
  }
  static Tensor run(const Tensor& x, c10::string_view reduce, const Maybe& lengths, const Maybe&, const Maybe& offsets,
                    int64_t, bool, const std::optional<at::Scalar>&) {
    constexpr double inf = std::numeric_limits<double>::infinity();
    const Tensor bounds =
        given(offsets) ? *offsets : at::cat({at::zeros({1}, lengths->options()), lengths->cumsum(0, at::kLong)});
    if (given(lengths) && x.is_cpu()) {
      TORCH_CHECK(lengths->ge(0).all().item<bool>() && bounds[-1].item<int64_t>() == x.size(0),
                  "segment_reduce(): Expected all rows of lengths along axis to sum to data.size(axis) when !unsafe, "
                  "and no length below 0.");
    }
    if (reduce == "sum") return detprobe::segment_reduce(x, bounds, Reduce::sum, 0);
    if (reduce == "mean")
      return detprobe::segment_reduce(x, bounds, Reduce::mean, std::numeric_limits<double>::quiet_NaN());
    return reduce == "max" ? segment_reduce(x, bounds, Reduce::amax, -inf)
                           : detprobe::segment_reduce(x, bounds, Reduce::amin, inf);
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(aten, BackendSelect, m) {
  namespace ops = at::_ops;
  wrap<ops::embedding_dense_backward, EmbeddingBackward>(m);
  wrap<ops::_embedding_bag, Bag<ops::_embedding_bag>>(m);
  wrap<ops::_embedding_bag_forward_only, Bag<ops::_embedding_bag_forward_only>>(m);
  wrap<ops::_embedding_bag_dense_backward, BagBackward>(m);
  wrap<ops::bincount, Bincount>(m);
  wrap<ops::histc, Histc>(m);
  wrap<ops::histc_out, HistcOut>(m);
  wrap<ops::histogram_bins_tensor, HistogramOfEdges>(m);
  wrap<ops::histogram_bins_tensor_out, HistogramOut<HistogramOfEdges>>(m);
  wrap<ops::histogram_bin_ct, HistogramOfBins>(m);
  wrap<ops::histogram_bin_ct_out, HistogramOut<HistogramOfBins>>(m);
  wrap<ops::segment_reduce, SegmentReduce>(m);
}

}  // namespace detprobe::reroute
