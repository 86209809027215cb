// cross_entropy and its gradients, for classes and for probabilities. Formulas: csrc/README.md.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "../cpu/float_mode.h"
#include "call.h"

namespace detprobe {
namespace {

using Maybe = std::optional<Tensor>;

constexpr int64_t kMean = 1, kNone = 0;

int64_t class_dim(const Tensor& x) { return x.dim() == 1 ? 0 : 1; }
bool by_class(const Tensor& target) { return !at::isFloatingType(target.scalar_type()); }

// keep = 1 - smoothing and share = smoothing / classes, computed in f64.
struct Smoothing {
  FloatMode mode;
  double keep, share;
  bool on;
  Smoothing(double smoothing, int64_t classes)
      : keep(1.0 - smoothing), share(smoothing / static_cast<double>(classes)), on(smoothing != 0) {
    if (!on) share = -0.0;  // q * 1 + -0.0 is q
  }
};

// The classes, with 0 in the place of those to be ignored; and 1.0 where a target counts, else +0.0.
struct Classes {
  Tensor index, counts;

  Classes(const Tensor& target, int64_t ignore_index, int64_t classes, at::ScalarType acc) {
    const Tensor wide = target.to(at::kLong).contiguous();
    const Tensor ignored = wide.eq(ignore_index);
    index = wide.masked_fill(ignored, 0);
    counts = ignored.logical_not().to(acc);
    if (!wide.is_cpu()) return;  // gather asserts on the device
    const int64_t* t = index.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < index.numel(); ++i) {
      TORCH_CHECK_INDEX(t[i] >= 0 && t[i] < classes, "Target ", t[i], " is out of bounds: expected 0 to ", classes - 1,
                        " or ignore_index (", ignore_index, ")");
    }
  }
};

// The sum of the samples' losses, or their mean; l and u in acc.
std::tuple<Tensor, Tensor> reduced(const Tensor& l, const Tensor& u, int64_t reduction, at::ScalarType type) {
  const Tensor total = Call(Op::Sum, u, std::nullopt).reduce(false);
  if (reduction == kNone) return {rounded(l, type), total};
  Tensor loss = Call(Op::Sum, l, std::nullopt).reduce(false);
  if (reduction == kMean) {
    const Tensor one = loss.reshape({1, 1});
    const int64_t along[] = {1};
    loss = Call(Op::Divide, one, along).number(0, total).map().reshape({});
  }
  return {rounded(loss, type), total};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> cross_entropy(const Tensor& x, const Tensor& target, const Maybe& weight,
                                                         int64_t reduction, int64_t ignore_index, double smoothing) {
  const int64_t dim = class_dim(x), classes = x.size(dim);
  const int64_t along[] = {dim};
  const Smoothing smooth(smoothing, classes);
  if (!by_class(target)) {
    Call call(Op::CrossEntropySoft, x, along, &target);
    call.vector(0, weight, 1.0).number(2, smooth.keep).number(3, smooth.share);
    const Tensor max = call.want(0), logsum = call.want(1), l = call.want(4);
    call.run();
    const auto [loss, total] = reduced(l, at::ones_like(l), reduction, x.scalar_type());
    return {loss, total, max, logsum};
  }
  Call call(smooth.on ? Op::CrossEntropySmoothed : Op::CrossEntropy, x, along);
  const Classes c(target, ignore_index, classes, call.acc());
  if (smooth.on) call.vector(0, weight, 1.0);
  const Tensor max = call.want(0), logsum = call.want(1), all = smooth.on ? call.want(2) : Tensor();
  call.run();
  const Tensor here = to_acc(x.gather(dim, c.index.unsqueeze(dim)).squeeze(dim), x.scalar_type());
  Tensor u = c.counts;
  const int64_t each[] = {-1};
  Call loss_of(smooth.on ? Op::CrossEntropySmoothedLoss : Op::CrossEntropyLoss, here.unsqueeze(-1), each);
  loss_of.number(0, max).number(1, logsum).number(2, 1.0).number(3, c.counts);
  if (weight) {
    const Tensor w = to_acc(*weight, x.scalar_type()).take(c.index);
    loss_of.number(2, w);
    u = at::where(c.counts.ne(0), w, at::zeros_like(w));
  }
  if (smooth.on) loss_of.number(4, all).number(5, smooth.keep).number(6, smooth.share);
  const Tensor l = loss_of.map().squeeze(-1);
  const auto [loss, total] = reduced(l, u, reduction, x.scalar_type());
  return {loss, total, max, logsum};
}

std::tuple<Tensor, Tensor> cross_entropy_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                                                  const Maybe& weight, const Tensor& total, const Tensor& max,
                                                  const Tensor& logsum, int64_t reduction, int64_t ignore_index,
                                                  double smoothing, std::array<bool, 2> wanted) {
  const int64_t dim = class_dim(x), classes = x.size(dim);
  const int64_t along[] = {dim};
  const Smoothing smooth(smoothing, classes);
  const at::ScalarType acc = acc_type(x.scalar_type());
  Tensor k = to_acc(g, x.scalar_type());
  if (reduction == kMean) {
    const int64_t each[] = {1};
    k = Call(Op::Divide, k.reshape({1, 1}), each).number(0, total).map().reshape({});
  }
  k = k.expand(max.sizes()).contiguous();
  Tensor grad_x = at::empty({0}, x.options()), grad_target = at::empty({0}, target.options());
  if (!by_class(target)) {
    if (wanted[0]) {
      Call call(Op::CrossEntropySoftBackward, x, along, &target);
      call.number(0, max).number(1, logsum).number(2, smooth.keep).number(3, smooth.share).number(4, k);
      grad_x = call.vector(0, weight, 1.0).map();
    }
    if (wanted[1]) {
      Call call(Op::CrossEntropyTargetBackward, x, along);
      call.number(0, max).number(1, logsum).number(2, smooth.keep).number(4, k);
      grad_target = call.vector(0, weight, 1.0).map();
    }
    return {grad_x, grad_target};
  }
  if (!wanted[0]) return {grad_x, grad_target};
  const Classes c(target, ignore_index, classes, acc);
  TORCH_CHECK_NOT_IMPLEMENTED(acc == at::kDouble || classes <= 1 << 24,
                              "the gradient of cross_entropy numbers classes in float32, exact up to 2^24, got ",
                              classes);
  const Tensor ones = at::ones({classes}, x.options().dtype(acc));
  const Tensor w = weight ? to_acc(*weight, x.scalar_type()) : ones;
  Call call(smooth.on ? Op::CrossEntropySmoothedBackward : Op::CrossEntropyBackward, x, along);
  call.number(0, max).number(1, logsum).number(2, k).number(3, c.counts).number(4, c.index);
  call.vector(1, at::arange(classes, x.options().dtype(acc)));
  Tensor there = w.take(c.index);
  if (smooth.on) {
    // share * w for every class, keep * w + share * w for the target's: products and a sum, each rounded once.
    const Tensor share = at::full_like(w, smooth.share);
    call.vector(0, elementwise(Op::Multiply, w, &share).map());
    there = elementwise(Op::RunningAverage, there, &there)
                .number(0, smooth.keep)
                .number(1, smooth.share)
                .number(2, 1.0)
                .map();
  } else {
    call.vector(0, 0.0);
  }
  grad_x = call.number(5, there).map();
  return {grad_x, grad_target};
}

}  // namespace

static void register_cross_entropy(torch::Library& m) {
  m.impl("cross_entropy", cross_entropy);
  m.impl("cross_entropy_backward", cross_entropy_backward);
}

}  // namespace detprobe

DETPROBE_REGISTER(register_cross_entropy)
