// The schemas of detprobe's ops, once, and what a bug report wants to know of the build.
//
// torch/library.h rather than the stable ABI: rerouting aten ops needs the full dispatcher API (csrc/README.md).
#include <torch/library.h>

#include <string>

#include "cpu/kernels.h"
#include "tensor/call.h"

namespace {

std::string build_info() {
  std::string text = "compiler ";
#if defined(__clang__)
  text += "clang " __clang_version__;
#elif defined(__GNUC__)
  text += "gcc " __VERSION__;
#else
  text += "unknown";
#endif
  text += ", C++ " + std::to_string(__cplusplus);
#ifdef DETPROBE_CUDA_ARCHS
  text += ", CUDA " DETPROBE_CUDA_VERSION " for " DETPROBE_CUDA_ARCHS;
#else
  text += ", no CUDA";
#endif
#if defined(__x86_64__)
  text += ", x86-64";
#elif defined(__aarch64__)
  text += ", aarch64";
#endif
  return text;
}

void nothing_to_compare(const at::Tensor&, const at::Tensor&, at::Tensor, int64_t) {}
void nothing_to_digest(const at::Tensor&, at::Tensor, int64_t) {}

}  // namespace

TORCH_LIBRARY(detprobe, m) {
  m.def("compare(Tensor a, Tensor b, Tensor(c!) records, int row) -> ()");
  m.def("digest(Tensor a, Tensor(c!) records, int row) -> ()");
  m.def("build_info() -> str", build_info);
  m.def("cpu_capability() -> str", [] { return std::string(detprobe::instruction_set().name); });
  // Sends CPU tensors to the kernels at an address (of detprobe._emulator), 0 back to the CPU's: for tests.
  m.def("_emulate(int kernels) -> ()", detprobe::emulate);

  // The reductions of csrc/README.md and their gradients. `dim`: sorted or not, negative or not; None is all.
  m.def("sum(Tensor x, int[]? dim, bool keepdim, ScalarType? dtype) -> Tensor");
  m.def("exact_sum(Tensor x, int[]? dim, bool keepdim, ScalarType? dtype) -> Tensor");
  m.def("mean(Tensor x, int[]? dim, bool keepdim, ScalarType? dtype) -> Tensor");
  m.def("dot(Tensor a, Tensor b, int[]? dim, bool keepdim) -> Tensor");
  m.def("var(Tensor x, int[]? dim, bool keepdim, float correction) -> Tensor");
  m.def("std(Tensor x, int[]? dim, bool keepdim, float correction) -> Tensor");
  m.def("vector_norm(Tensor x, float ord, int[]? dim, bool keepdim, ScalarType? dtype) -> Tensor");
  m.def("logsumexp(Tensor x, int[]? dim, bool keepdim) -> Tensor");
  m.def("cumsum(Tensor x, int dim, bool reverse, ScalarType? dtype) -> Tensor");
  m.def("softmax(Tensor x, int dim, bool log, ScalarType? dtype) -> Tensor");

  // `g`, `y`, `std` of a backward have the reduced dimensions, with size 1.
  m.def("var_backward(Tensor g, Tensor x, int[]? dim, float correction) -> Tensor");
  m.def("std_backward(Tensor g, Tensor x, Tensor std, int[]? dim, float correction) -> Tensor");
  m.def("vector_norm_backward(Tensor g, Tensor x, Tensor y, float ord, int[]? dim) -> Tensor");
  m.def("logsumexp_backward(Tensor g, Tensor x, Tensor y, int[]? dim) -> Tensor");
  m.def("softmax_backward(Tensor g, Tensor y, int dim, bool log) -> Tensor");

  // `mean`, `rstd` and `squares` are in acc. layer_norm reduces the last `dims` dimensions; not centered, it is
  // rms_norm, and its mean is empty. Of gradients that are not wanted an empty tensor comes back.
  m.def(
      "layer_norm(Tensor x, int dims, Tensor? weight, Tensor? bias, float eps, bool centered)"
      " -> (Tensor y, Tensor mean, Tensor rstd)");
  m.def(
      "layer_norm_backward(Tensor g, Tensor x, Tensor mean, Tensor rstd, Tensor? weight, int dims, bool centered,"
      " bool[3] wanted) -> (Tensor x, Tensor weight, Tensor bias)");
  m.def(
      "batch_norm_training(Tensor x, Tensor? weight, Tensor? bias, float eps)"
      " -> (Tensor y, Tensor mean, Tensor squares, Tensor rstd)");
  m.def(
      "batch_norm_inference(Tensor x, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, float eps)"
      " -> (Tensor y, Tensor rstd)");
  m.def(
      "batch_norm_backward(Tensor g, Tensor x, Tensor mean, Tensor rstd, Tensor? weight, bool training,"
      " bool[3] wanted) -> (Tensor x, Tensor weight, Tensor bias)");
  // running * (1 - momentum) + (value / divisor) * momentum
  m.def("running_average(Tensor running, Tensor value, float divisor, float momentum) -> Tensor");

  // reduction: 0 none, 1 mean, 2 sum. total = S(u); max and logsum, in acc, are those of every sample.
  m.def(
      "cross_entropy(Tensor x, Tensor target, Tensor? weight, int reduction, int ignore_index, float smoothing)"
      " -> (Tensor loss, Tensor total, Tensor max, Tensor logsum)");
  m.def(
      "cross_entropy_backward(Tensor g, Tensor x, Tensor target, Tensor? weight, Tensor total, Tensor max,"
      " Tensor logsum, int reduction, int ignore_index, float smoothing, bool[2] wanted)"
      " -> (Tensor x, Tensor target)");

  // One rounded operation for each element, which no compiler fuses with another; `b` broadcasts to `a`.
  m.def("multiply(Tensor a, Tensor b) -> Tensor");
  m.def("divide(Tensor a, float b) -> Tensor");
  m.def("exp(Tensor x) -> Tensor");
  m.def("log(Tensor x) -> Tensor");

  // The scatter family (DSEG-1). `plan` is empty or {order, offsets} of index_plan, and then `index` is not read but
  // for its shape. `reduce`: sum, prod, mean, amax, amin. mode: 0 sum, 1 mean, 2 max. padding_idx < 0: there is none.
  m.def("index_plan(Tensor index, int size) -> (Tensor order, Tensor offsets)");
  m.def("index_add(Tensor x, int dim, Tensor index, Tensor source, Scalar alpha, Tensor[] plan) -> Tensor");
  m.def(
      "scatter_reduce(Tensor x, int dim, Tensor index, Tensor src, str reduce, bool include_self, Tensor[] plan)"
      " -> Tensor");
  m.def("index_put(Tensor x, Tensor?[] indices, Tensor values, bool accumulate) -> Tensor");
  m.def("put(Tensor x, Tensor index, Tensor source, bool accumulate) -> Tensor");
  m.def("index_copy(Tensor x, int dim, Tensor index, Tensor source) -> Tensor");
  m.def("scatter(Tensor x, int dim, Tensor index, Tensor src) -> Tensor");
  m.def("segment_reduce(Tensor x, Tensor offsets, str reduce, float empty) -> Tensor");
  m.def(
      "embedding_backward(Tensor g, Tensor index, SymInt rows, int padding_idx, bool scale_grad_by_freq, Tensor[] plan)"
      " -> Tensor");
  m.def(
      "embedding_bag(Tensor weight, Tensor index, Tensor offsets, int mode, Tensor? per_sample_weights,"
      " bool include_last_offset, int padding_idx, bool scale_grad_by_freq) -> Tensor");
  m.def(
      "embedding_bag_backward(Tensor g, Tensor weight, Tensor index, Tensor offsets, int mode,"
      " Tensor? per_sample_weights, bool include_last_offset, int padding_idx, bool scale_grad_by_freq)"
      " -> (Tensor weight, Tensor per_sample_weights)");
  m.def("bincount(Tensor x, Tensor? weights, int minlength) -> Tensor");
  m.def("histc(Tensor x, int bins, Scalar low, Scalar high) -> Tensor");
  m.def("histogram(Tensor x, Tensor edges, Tensor? weight, bool density) -> Tensor");
  m.def("histogram_edges(Tensor x, int bins, float[]? range) -> Tensor");
  // Copies, whose gradients are sums of this family: aten's own op forward.
  m.def("index_select(Tensor x, int dim, Tensor index, Tensor[] plan) -> Tensor");
  m.def("gather(Tensor x, int dim, Tensor index, Tensor[] plan) -> Tensor");
  m.def("take(Tensor x, Tensor index) -> Tensor");
  m.def("index(Tensor x, Tensor?[] indices) -> Tensor");
  m.def("embedding(Tensor weight, Tensor index, int padding_idx, bool scale_grad_by_freq, Tensor[] plan) -> Tensor");
}

TORCH_LIBRARY_IMPL(detprobe, Meta, m) {
  m.impl("compare", nothing_to_compare);
  m.impl("digest", nothing_to_digest);
}
