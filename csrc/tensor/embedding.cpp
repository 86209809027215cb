// embedding and embedding_bag with their gradients. Orders: DSEG-1 of csrc/README.md.
#include <ATen/EmptyTensor.h>
#include <ATen/ops/_assert_async.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "destinations.h"

namespace detprobe {
namespace {

using Maybe = std::optional<Tensor>;

constexpr int64_t kSum = 0, kMean = 1, kMax = 2;  // aten's modes of embedding_bag

// Which records are in which bag. A record that is padding or in no bag has bag `count`.
struct Bags {
  int64_t count;
  Tensor offsets;  // [count + 1]
  Tensor index;    // [n] int64

  Bags(const Tensor& indices, const Tensor& begins, bool include_last_offset)
      : index(indices.to(at::kLong).contiguous()) {
    TORCH_CHECK(index.dim() == 1 && begins.dim() == 1, "embedding_bag: expected one dimension, got index ",
                indices.sizes(), " and offsets ", begins.sizes());
    const Tensor wide = begins.to(at::kLong).contiguous();
    const int64_t n = index.numel();
    TORCH_CHECK(!include_last_offset || wide.numel() > 0, "embedding_bag: offsets: expected at least one, got none");
    count = wide.numel() - include_last_offset;
    offsets = include_last_offset ? wide : at::cat({wide, at::full({1}, n, wide.options())});
    if (!offsets.is_cpu()) {
      at::_assert_async(offsets.diff().ge(0).all().logical_and_(offsets[0].eq(0)).logical_and_(offsets[-1].le(n)));
      return;
    }
    const int64_t* at = offsets.const_data_ptr<int64_t>();
    for (int64_t b = 0; b <= count; ++b) {
      TORCH_CHECK(b == 0 ? at[b] == 0 || count == 0 : at[b] >= at[b - 1] && at[b] <= n,
                  "embedding_bag: offsets: expected ascending numbers from 0 to ", n, ", got ", at[b], " at position ",
                  b);
    }
  }

  Tensor bag_of_each(int64_t padding_idx) const {
    const Tensor bag = at::searchsorted(offsets, at::arange(index.numel(), index.options()), false, true).sub_(1);
    return padding_idx < 0 ? bag : bag.masked_fill_(index.eq(padding_idx), count);
  }
};

// N for each bag, 1 where it is empty, as a column in acc.
Tensor sizes_of(const Bags& bags, const Tensor& bag, at::ScalarType acc) {
  const Tensor counts = at::zeros({bags.count + 1}, bag.options()).scatter_add_(0, bag, at::ones_like(bag));
  return counts.narrow(0, 0, bags.count).clamp_min_(1).to(acc).unsqueeze(1);
}

// Z of the records of every row of weight, from +0.0, in the dtype of `rows`.
Tensor sum_by_row(Tensor rows, Destinations& to, Folding how) {
  const int64_t columns = rows.size(1);
  const Tensor out = at::zeros({to.size, columns}, rows.options());
  how.start = Start::zero;
  fold_into(out, 1, columns, to, records_of(rows, 0, 1), how);
  return out;
}

Tensor signs(const Tensor& x) { return x.signbit(); }

// The record that a bag has from each column, [bags, D]; n where a bag is empty.
Tensor winners(const Bags& bags, const Tensor& bag, const Tensor& weight, const Tensor& largest) {
  const int64_t n = bag.numel(), columns = weight.size(1);
  const Tensor z = weight.index_select(0, bags.index);
  const Tensor y = at::cat({largest, at::zeros({1, columns}, largest.options())}).index_select(0, bag);
  const Tensor chosen = z.eq(y).logical_and_(signs(z).eq(signs(y))).logical_or_(z.isnan().logical_and_(y.isnan()));
  const Tensor place = at::where(chosen, at::arange(n, bag.options()).unsqueeze(1), n);
  const Tensor to = bag.unsqueeze(1).expand({n, columns});
  return at::full({bags.count + 1, columns}, n, bag.options())
      .scatter_reduce_(0, to, place, "amin")
      .narrow(0, 0, bags.count);
}

}  // namespace

Tensor embedding_backward(const Tensor& g, const Tensor& index, int64_t rows, int64_t padding_idx,
                          bool scale_grad_by_freq, const Plan& plan) {
  TORCH_CHECK(g.dim() >= 1 && g.numel() == index.numel() * g.size(-1),
              "embedding_backward: g: expected a row for each of ", index.numel(), " indices, got ", g.sizes());
  Destinations to =
      plan.defined() ? destinations(plan, rows) : destinations("embedding", index, rows, false, padding_idx);
  Folding how;
  how.divided = scale_grad_by_freq;
  const Tensor out = sum_by_row(g.reshape({-1, g.size(-1)}), to, how);
  if (plan.defined() && padding_idx >= 0) out.select(0, padding_idx).zero_();
  return out;
}

Tensor embedding_bag(const Tensor& weight, const Tensor& index, const Tensor& offsets, int64_t mode,
                     const Maybe& per_sample_weights, bool include_last_offset, int64_t padding_idx) {
  check_range("embedding_bag", index, weight.size(0), false);
  const Bags bags(index, offsets, include_last_offset);
  Destinations to;
  if (padding_idx < 0) {
    to.size = bags.count;
    to.count = bags.index.numel();
    to.plan.offsets = bags.offsets;
  } else {
    to = destinations("embedding_bag", bags.bag_of_each(padding_idx), bags.count, false, bags.count);
  }
  Folding how;
  how.fold = mode == kMax ? Fold::amax : Fold::sum;
  how.start = mode == kMax ? Start::first : Start::zero;
  how.divided = mode == kMean;
  how.from = bags.index;
  if (per_sample_weights) how.weight = to_acc(*per_sample_weights, weight.scalar_type());
  const Tensor out = at::zeros({bags.count, weight.size(1)}, weight.options());
  Tensor rows = weight;
  fold_into(out, 1, weight.size(1), to, records_of(rows, 0, 1), how);
  return out;
}

std::tuple<Tensor, Tensor> embedding_bag_backward(const Tensor& g, const Tensor& weight, const Tensor& index,
                                                  const Tensor& offsets, int64_t mode, const Maybe& per_sample_weights,
                                                  bool include_last_offset, int64_t padding_idx,
                                                  bool scale_grad_by_freq) {
  check_range("embedding_bag", index, weight.size(0), false);
  const Bags bags(index, offsets, include_last_offset);
  const Tensor bag = bags.bag_of_each(padding_idx);
  const int64_t rows = weight.size(0), columns = weight.size(1);
  if (mode == kMax) {
    const Tensor largest = embedding_bag(weight, index, offsets, mode, std::nullopt, include_last_offset, padding_idx);
    const Tensor winner = winners(bags, bag, weight, largest);
    const Tensor row = at::cat({bags.index, at::full({1}, rows, bag.options())}).index_select(0, winner.reshape({-1}));
    const Tensor place = row.view({-1, columns}).mul(columns).add_(at::arange(columns, bag.options()));
    const Tensor nowhere = row.view({-1, columns}).eq(rows);
    Destinations to = destinations("embedding_bag", place.masked_fill_(nowhere, rows * columns), rows * columns, false,
                                   rows * columns);
    return {sum_by_row(g.reshape({-1, 1}), to, {}).view({rows, columns}), Tensor()};
  }
  const Tensor nowhere = bag.ge(bags.count);
  Destinations to = destinations("embedding_bag", bags.index.masked_fill(nowhere, rows), rows, false, rows);
  Folding how;
  how.divided = scale_grad_by_freq;
  how.from = bag;
  Tensor of_samples;
  if (mode == kMean) {
    const Tensor shares = to_acc(g, g.scalar_type()).div(sizes_of(bags, bag, acc_type(g.scalar_type())));
    return {rounded(sum_by_row(shares, to, how), g.scalar_type()), Tensor()};
  }
  if (per_sample_weights) {
    how.weight = to_acc(*per_sample_weights, g.scalar_type());
    const Tensor of_bag = at::cat({g, at::zeros({1, columns}, g.options())}).index_select(0, bag);
    const Tensor of_row = weight.index_select(0, bags.index);
    const int64_t along[] = {1};
    of_samples = Call(Op::Dot, of_bag, along, &of_row).reduce(false).masked_fill_(nowhere, 0);
  }
  return {sum_by_row(g, to, how), of_samples};
}

namespace {

Tensor backward(const Tensor& g, const Tensor& index, int64_t rows, int64_t padding_idx, bool scale_grad_by_freq,
                at::TensorList plan) {
  TORCH_CHECK(plan.empty() || plan.size() == 2, "plan: expected order and offsets, got ", plan.size(), " tensors");
  return embedding_backward(g, index, rows, padding_idx, scale_grad_by_freq,
                            plan.empty() ? Plan{} : Plan{plan[0], plan[1]});
}
Tensor embedding(const Tensor& weight, const Tensor& index, int64_t, bool, at::TensorList) {
  return at::embedding(weight, index);
}
// By frequency is only the gradient.
Tensor bag(const Tensor& weight, const Tensor& index, const Tensor& offsets, int64_t mode,
           const Maybe& per_sample_weights, bool include_last_offset, int64_t padding_idx, bool) {
  return embedding_bag(weight, index, offsets, mode, per_sample_weights, include_last_offset, padding_idx);
}
std::tuple<Tensor, Tensor> bag_backward(const Tensor& g, const Tensor& weight, const Tensor& index,
                                        const Tensor& offsets, int64_t mode, const Maybe& per_sample_weights,
                                        bool include_last_offset, int64_t padding_idx, bool scale_grad_by_freq) {
  auto [of_weight, of_samples] = embedding_bag_backward(g, weight, index, offsets, mode, per_sample_weights,
                                                        include_last_offset, padding_idx, scale_grad_by_freq);
  if (!of_samples.defined()) of_samples = at::zeros({0}, g.options());
  return {of_weight, of_samples};
}

}  // namespace

static void register_embedding(torch::Library& m) {
  m.impl("embedding", embedding);
  m.impl("embedding_backward", backward);
  m.impl("embedding_bag", bag);
  m.impl("embedding_bag_backward", bag_backward);
}

}  // namespace detprobe

DETPROBE_REGISTER(register_embedding)
