// softmax, normalisations and their gradients. Orders and formulas: csrc/README.md.
#include <ATen/ops/empty.h>

#include "../cpu/float_mode.h"
#include "call.h"

namespace detprobe {
namespace {

using Dtype = std::optional<at::ScalarType>;
using Maybe = std::optional<Tensor>;

Tensor none_like(const Tensor& x, at::ScalarType type) { return at::empty({0}, x.options().dtype(type)); }

Tensor softmax(const Tensor& x, int64_t dim, bool log, Dtype dtype) {
  const int64_t along[] = {dim};
  return Call(log ? Op::LogSoftmax : Op::Softmax, dtype ? x.to(*dtype) : x, along).map();
}

Tensor softmax_backward(const Tensor& g, const Tensor& y, int64_t dim, bool log) {
  const int64_t along[] = {dim};
  return Call(log ? Op::LogSoftmaxBackward : Op::SoftmaxBackward, y, along, &g).map();
}

// The last `dims` dimensions, or all before them.
std::vector<int64_t> last(const Tensor& x, int64_t dims) {
  std::vector<int64_t> out;
  for (int64_t d = x.dim() - dims; d < x.dim(); ++d) out.push_back(d);
  return out;
}
std::vector<int64_t> leading(const Tensor& x, int64_t dims) {
  std::vector<int64_t> out;
  for (int64_t d = 0; d < x.dim() - dims; ++d) out.push_back(d);
  return out;
}

std::tuple<Tensor, Tensor, Tensor> layer_norm(const Tensor& x, int64_t dims, const Maybe& weight, const Maybe& bias,
                                              double eps, bool centered) {
  Call call(centered ? Op::LayerNorm : Op::RmsNorm, x, last(x, dims));
  call.number(2, eps).vector(0, weight, 1.0).vector(1, bias, -0.0);
  const Tensor mean = centered ? call.want(0) : none_like(x, call.acc()), rstd = call.want(1);
  Tensor y = call.map();
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor> layer_norm_backward(const Tensor& g, const Tensor& x, const Tensor& mean,
                                                       const Tensor& rstd, const Maybe& weight, int64_t dims,
                                                       bool centered, std::array<bool, 3> wanted) {
  const at::ScalarType type = weight && weight->defined() ? weight->scalar_type() : x.scalar_type();
  const auto shape = x.sizes().slice(x.dim() - dims);
  Tensor grad_x = none_like(x, x.scalar_type()), grad_weight = none_like(x, type), grad_bias = none_like(x, type);
  if (wanted[0]) {
    Call call(centered ? Op::LayerNormBackward : Op::RmsNormBackward, x, last(x, dims), &g);
    if (centered) call.number(0, mean);
    grad_x = call.number(1, rstd).vector(0, weight, 1.0).map();
  }
  if (!wanted[1] && !wanted[2]) return {grad_x, grad_weight, grad_bias};
  // Rows are now the elements of weight and bias, over the batch.
  const Tensor batch_g = x.dim() == dims ? g.unsqueeze(0) : g, batch_x = x.dim() == dims ? x.unsqueeze(0) : x;
  const auto over = leading(batch_x, dims);
  if (centered) {
    Call call(Op::LayerNormWeights, batch_x, over, &batch_g);
    const Tensor weights = call.vector(0, mean).vector(1, rstd).want(0), biases = call.want(1);
    call.run();
    if (wanted[1]) grad_weight = rounded(weights.reshape(shape), type);
    if (wanted[2]) grad_bias = rounded(biases.reshape(shape), type);
  } else {
    Call call(Op::RmsNormWeights, batch_x, over, &batch_g);
    const Tensor weights = call.vector(1, rstd).want(0);
    call.run();
    if (wanted[1]) grad_weight = rounded(weights.reshape(shape), type);
  }
  return {grad_x, grad_weight, grad_bias};
}

// All dimensions but the channels.
std::vector<int64_t> but_channels(const Tensor& x) {
  std::vector<int64_t> out;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (d != 1) out.push_back(d);
  }
  return out;
}

Tensor inverse_root(const Tensor& squares, double count, double eps) {
  return elementwise(Op::InverseRoot, squares).number(0, count).number(1, eps).map();
}

Tensor normalised(const Tensor& x, const Tensor& mean, const Tensor& rstd, const Maybe& weight, const Maybe& bias) {
  Call call(Op::BatchNorm, x, but_channels(x));
  call.number(0, mean).number(1, rstd).number(2, weight, 1.0).number(3, bias, -0.0);
  return call.map();
}

std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_training(const Tensor& x, const Maybe& weight, const Maybe& bias,
                                                               double eps) {
  Call call(Op::Moments, x, but_channels(x));
  const Tensor mean = call.want(0), squares = call.want(1);
  call.run();
  const Tensor rstd = inverse_root(squares, static_cast<double>(call.n()), eps);
  return {normalised(x, mean, rstd, weight, bias), mean, squares, rstd};
}

std::tuple<Tensor, Tensor> batch_norm_inference(const Tensor& x, const Tensor& mean, const Tensor& var,
                                                const Maybe& weight, const Maybe& bias, double eps) {
  const Tensor rstd = inverse_root(to_acc(var, x.scalar_type()), 1.0, eps);
  return {normalised(x, mean, rstd, weight, bias), rstd};
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_backward(const Tensor& g, const Tensor& x, const Tensor& mean,
                                                       const Tensor& rstd, const Maybe& weight, bool training,
                                                       std::array<bool, 3> wanted) {
  const at::ScalarType type = weight && weight->defined() ? weight->scalar_type() : x.scalar_type();
  Tensor grad_x = none_like(x, x.scalar_type()), grad_weight = none_like(x, type), grad_bias = none_like(x, type);
  Call call(training && wanted[0] ? Op::BatchNormBackward : Op::BatchNormWeights, x, but_channels(x), &g);
  call.number(0, mean).number(1, rstd).number(2, weight, 1.0);
  const Tensor bias_sums = call.want(3), weight_sums = call.want(4);
  if (training && wanted[0]) {
    grad_x = call.map();
  } else {
    if (wanted[1] || wanted[2]) call.run();
    if (wanted[0]) {
      Call back(Op::BatchNormInferenceBackward, x, but_channels(x), &g);
      grad_x = back.number(1, rstd).number(2, weight, 1.0).map();
    }
  }
  if (wanted[1]) grad_weight = rounded(weight_sums, type);
  if (wanted[2]) grad_bias = rounded(bias_sums, type);
  return {grad_x, grad_weight, grad_bias};
}

Tensor running_average(const Tensor& running, const Tensor& value, double divisor, double momentum) {
  const FloatMode mode;
  const Tensor old = to_acc(running, value.scalar_type());
  Call call = elementwise(Op::RunningAverage, old, &value);
  const double f = round_to(call.acc(), momentum), keep = round_to(call.acc(), 1.0 - f);
  return rounded(call.number(0, keep).number(1, f).number(2, divisor).map(), running.scalar_type());
}

}  // namespace

static void register_rows(torch::Library& m) {
  m.impl("softmax", softmax);
  m.impl("softmax_backward", softmax_backward);
  m.impl("layer_norm", layer_norm);
  m.impl("layer_norm_backward", layer_norm_backward);
  m.impl("batch_norm_training", batch_norm_training);
  m.impl("batch_norm_inference", batch_norm_inference);
  m.impl("batch_norm_backward", batch_norm_backward);
  m.impl("running_average", running_average);
}

}  // namespace detprobe

DETPROBE_REGISTER(register_rows)
