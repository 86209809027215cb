// The reductions to one result for a row, cumsum, and their gradients. Orders and formulas: csrc/README.md.
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/WrapDimUtils.h>

#include <cmath>

#include "../cpu/float_mode.h"
#include "call.h"

namespace detprobe {
namespace {

using Dtype = std::optional<at::ScalarType>;

Tensor converted(const Tensor& x, Dtype dtype) {
  const Tensor y = dtype && *dtype != x.scalar_type() ? x.to(*dtype) : x;
  // Unsigned integers of 16 to 64 bits add up as int64 do.
  return at::isIntegralType(y.scalar_type(), true) && y.scalar_type() >= at::kUInt16 ? y.to(at::kLong) : y;
}

// Integers come as int64; a dtype that was asked for keeps its low bits.
Tensor with_dtype(const Tensor& result, Dtype dtype) {
  return dtype && result.scalar_type() != *dtype ? result.to(*dtype) : result;
}

Tensor sum(const Tensor& x, Dims dim, bool keepdim, Dtype dtype) {
  return with_dtype(Call(Op::Sum, converted(x, dtype), dim).reduce(keepdim), dtype);
}

Tensor mean(const Tensor& x, Dims dim, bool keepdim, Dtype dtype) {
  return Call(Op::Mean, converted(x, dtype), dim).reduce(keepdim);
}

Tensor dot(const Tensor& a, const Tensor& b, Dims dim, bool keepdim) {
  return with_dtype(Call(Op::Dot, a, dim, &b).reduce(keepdim), a.scalar_type());
}

double degrees(const Call& call, double correction) {
  const FloatMode mode;
  return round_to(call.acc(), std::max(0.0, static_cast<double>(call.n()) - correction));
}

Tensor var(const Tensor& x, Dims dim, bool keepdim, double correction) {
  Call call(Op::Var, x, dim);
  return call.number(2, degrees(call, correction)).reduce(keepdim);
}

Tensor std_(const Tensor& x, Dims dim, bool keepdim, double correction) {
  Call call(Op::Std, x, dim);
  return call.number(2, degrees(call, correction)).reduce(keepdim);
}

// 2 / M, one division in acc.
double twice_over(const Call& call, double correction) {
  const FloatMode mode;
  const double m = degrees(call, correction);
  return call.acc() == at::kFloat ? 2.0f / static_cast<float>(m) : 2.0 / m;
}

Tensor var_backward(const Tensor& g, const Tensor& x, Dims dim, double correction) {
  Call call(Op::VarBackward, x, dim);
  return call.number(2, g).number(4, twice_over(call, correction)).map();
}

Tensor std_backward(const Tensor& g, const Tensor& x, const Tensor& std, Dims dim, double correction) {
  Call call(Op::StdBackward, x, dim);
  return call.number(2, g).number(3, std).number(4, twice_over(call, correction)).map();
}

Tensor vector_norm(const Tensor& x, double ord, Dims dim, bool keepdim, Dtype dtype) {
  const Op op = ord == 0          ? Op::NormZero
                : ord == 1        ? Op::NormOne
                : ord == 2        ? Op::NormTwo
                : ord == INFINITY ? Op::NormInf
                                  : Op::NormMinusInf;
  TORCH_CHECK(op != Op::NormMinusInf || ord == -INFINITY, "ord: expected 0, 1, 2, inf or -inf, got ", ord);
  Call call(op, converted(x, dtype), dim);
  TORCH_CHECK(std::isfinite(ord) || call.n() > 0, "the norm of order ", ord, " of no elements is not defined");
  return call.reduce(keepdim);
}

Tensor vector_norm_backward(const Tensor& g, const Tensor& x, const Tensor& y, double ord, Dims dim) {
  if (ord == 0) return at::zeros_like(x);
  if (ord == 1) return Call(Op::NormOneBackward, x, dim).number(0, g).map();
  const Op op = ord == 2 ? Op::NormTwoBackward : Op::NormInfBackward;
  return Call(op, x, dim).number(0, g).number(1, y).map();
}

Tensor logsumexp(const Tensor& x, Dims dim, bool keepdim) { return Call(Op::LogSumExp, x, dim).reduce(keepdim); }

Tensor logsumexp_backward(const Tensor& g, const Tensor& x, const Tensor& y, Dims dim) {
  return Call(Op::LogSumExpBackward, x, dim).number(0, g).number(1, y).map();
}

Tensor exact_sum(const Tensor& input, Dims dim, bool keepdim, Dtype dtype) {
  const Tensor x = converted(input, dtype);
  if (!at::isFloatingType(x.scalar_type())) return sum(x, dim, keepdim, dtype);
  return Call(Op::Sum, x, dim).exact(keepdim);
}

Tensor cumsum(const Tensor& input, int64_t dim, bool reverse, Dtype dtype) {
  Tensor x = converted(input, dtype);
  if (!at::isFloatingType(x.scalar_type())) x = x.to(at::kLong);
  const int64_t along[] = {dim};
  return with_dtype(Call(Op::Sum, x, along).scan(reverse), dtype);
}

Tensor multiply(const Tensor& a, const Tensor& b) {
  const Tensor same = b.expand(a.sizes());
  return elementwise(Op::Multiply, a, &same).map();
}

Tensor divide(const Tensor& a, double b) { return elementwise(Op::Divide, a).number(0, b).map(); }
Tensor exp(const Tensor& x) { return elementwise(Op::Exp, x).map(); }
Tensor log(const Tensor& x) { return elementwise(Op::Log, x).map(); }

}  // namespace

static void register_reductions(torch::Library& m) {
  m.impl("sum", sum);
  m.impl("exact_sum", exact_sum);
  m.impl("mean", mean);
  m.impl("dot", dot);
  m.impl("var", var);
  m.impl("std", std_);
  m.impl("vector_norm", vector_norm);
  m.impl("logsumexp", logsumexp);
  m.impl("cumsum", cumsum);
  m.impl("var_backward", var_backward);
  m.impl("std_backward", std_backward);
  m.impl("vector_norm_backward", vector_norm_backward);
  m.impl("logsumexp_backward", logsumexp_backward);
  m.impl("multiply", multiply);
  m.impl("divide", divide);
  m.impl("exp", exp);
  m.impl("log", log);
}

}  // namespace detprobe

DETPROBE_REGISTER(register_reductions)
