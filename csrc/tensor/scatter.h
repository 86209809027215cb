// The scatter family on tensors: DSEG-1 of csrc/README.md. What `library.cpp` has schemas for and what the context
// reroutes aten ops to, so a function takes what the aten op of its name takes, below autograd.
//
// A name that ends in _ writes into x, whatever its strides; x must not overlap itself. All records are checked before
// anything is written: on the CPU an IndexError names position, value and size; on CUDA the device asserts.
//
// They use aten's ops of the same names for integers and for copies: whoever sends those here does not while one runs.
#pragma once

#include <ATen/core/IListRef.h>
#include <ATen/core/List.h>

#include "call.h"

namespace detprobe {

// An index that was sorted once: [n] the records by destination (undefined: they lie so), [size + 1] where each
// destination begins. In the place
// of an index it is known to be within range. Without offsets there is none.
struct Plan {
  Tensor order, offsets;
  bool defined() const { return offsets.defined(); }
};

enum class Reduce : int64_t { sum, prod, mean, amax, amin };
Reduce reduce_of(c10::string_view name);  // "sum", "prod", ..

using Indices = c10::List<std::optional<Tensor>>;

// Source order of an index, [n] int64 of any shape and strides; checks it against `size`.
Plan index_plan(const Tensor& index, int64_t size);

// fresh: x belongs to nobody yet, so that an error may leave it half written.
void index_add_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source, const at::Scalar& alpha,
                const Plan& plan = {}, bool fresh = false);
void scatter_reduce_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src, Reduce reduce,
                     bool include_self, const Plan& plan = {}, bool fresh = false);
void index_put_(const Tensor& x, const Indices& indices, const Tensor& values, bool accumulate);
void put_(const Tensor& x, const Tensor& index, const Tensor& source, bool accumulate);
// The last record wins.
void index_copy_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
void scatter_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src);

// sum, mean or amax ("max") of the slices of each segment along dimension 0; `empty` is what an empty one gives.
Tensor segment_reduce(const Tensor& x, const Tensor& offsets, Reduce reduce, double empty);

// padding_idx < 0: there is none.
Tensor embedding_backward(const Tensor& g, const Tensor& index, int64_t rows, int64_t padding_idx,
                          bool scale_grad_by_freq, const Plan& plan = {});
// mode: 0 sum, 1 mean, 2 max, as aten's.
Tensor embedding_bag(const Tensor& weight, const Tensor& index, const Tensor& offsets, int64_t mode,
                     const std::optional<Tensor>& per_sample_weights, bool include_last_offset, int64_t padding_idx);
// The gradients of weight and of per_sample_weights (undefined without them).
std::tuple<Tensor, Tensor> embedding_bag_backward(const Tensor& g, const Tensor& weight, const Tensor& index,
                                                  const Tensor& offsets, int64_t mode,
                                                  const std::optional<Tensor>& per_sample_weights,
                                                  bool include_last_offset, int64_t padding_idx,
                                                  bool scale_grad_by_freq);

Tensor bincount(const Tensor& x, const std::optional<Tensor>& weights, int64_t minlength);
Tensor histc(const Tensor& x, int64_t bins, const at::Scalar& low, const at::Scalar& high);
// Counts, or sums of `weight`, between edges that are given.
Tensor histogram(const Tensor& x, const Tensor& edges, const std::optional<Tensor>& weight, bool density);
// [bins + 1] in the dtype of x: edges of bins of one width over `range`, or over the smallest to the largest element.
Tensor histogram_edges(const Tensor& x, int64_t bins, std::optional<at::ArrayRef<double>> range);

}  // namespace detprobe
