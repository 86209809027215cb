// cross_entropy and its gradients, for classes and for probabilities. Formulas: csrc/README.md.
#include <ATen/Dispatch.h>
#include <ATen/EmptyTensor.h>
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

// What belongs to the class of each sample, in acc and in the shape of the target; classes to be ignored count as 0.
struct Classes {
  Tensor index;         // int64
  Tensor counts;        // 1.0, or +0.0 where the target is to be ignored
  Tensor weight;        // of the class; undefined where there are no weights
  Tensor total_weight;  // the same, +0.0 where the target is to be ignored; counts where there are no weights
  Tensor input;         // x at the class

  Classes(const Tensor& x, int64_t dim, const Tensor& target, const Maybe& weights, int64_t ignore_index) {
    const Tensor wide = target.to(at::kLong).contiguous();
    const at::ScalarType acc = acc_type(x.scalar_type());
    const Tensor w = weights ? to_acc(*weights, x.scalar_type()) : Tensor();
    if (wide.is_cpu()) {
      check(wide, x.size(dim), ignore_index);
      AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "cross_entropy", [&] {
        using A = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
        look_up<scalar_t, A>(x, dim, wide, w, ignore_index);
      });
      return;
    }
    const Tensor ignored = wide.eq(ignore_index);  // gather asserts on the device
    index = wide.masked_fill(ignored, 0);
    counts = ignored.logical_not().to(acc);
    input = to_acc(x.gather(dim, index.unsqueeze(dim)).squeeze(dim), x.scalar_type());
    if (weights) weight = w.take(index);
    total_weight = weights ? at::where(ignored, at::zeros_like(weight), weight) : counts;
  }

 private:
  static void check(const Tensor& wide, int64_t classes, int64_t ignore_index) {
    const int64_t* t = wide.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < wide.numel(); ++i) {
      TORCH_CHECK_INDEX((t[i] >= 0 && t[i] < classes) || t[i] == ignore_index, "Target ", t[i],
                        " is out of bounds: expected 0 to ", classes - 1, " or ignore_index (", ignore_index, ")");
    }
  }

  // The same in one reading: a dozen calls of small ops cost more than the loss of a small batch.
  template <class T, class A>
  void look_up(const Tensor& x, int64_t dim, const Tensor& wide, const Tensor& w, int64_t ignore_index) {
    const auto acc = c10::CppTypeToScalarType<A>::value;
    index = at::detail::empty_cpu(wide.sizes(), at::kLong);
    counts = at::detail::empty_cpu(wide.sizes(), acc);
    input = at::detail::empty_cpu(wide.sizes(), acc);
    if (w.defined()) weight = at::detail::empty_cpu(wide.sizes(), acc);
    total_weight = w.defined() ? at::detail::empty_cpu(wide.sizes(), acc) : counts;
    bool along[64] = {};
    along[dim] = true;
    Geometry g;
    TORCH_INTERNAL_ASSERT(split(x.sizes().data(), x.strides().data(), x.strides().data(), along, x.dim(), g));
    const int64_t *from = wide.const_data_ptr<int64_t>(), apart = x.stride(dim);
    const T* values = x.const_data_ptr<T>();
    const A* weight_of = w.defined() ? w.const_data_ptr<A>() : nullptr;
    int64_t* to = index.mutable_data_ptr<int64_t>();
    A *count = counts.mutable_data_ptr<A>(), *mine = input.mutable_data_ptr<A>();
    A* weight_to = w.defined() ? weight.mutable_data_ptr<A>() : nullptr;
    A* total_to = w.defined() ? total_weight.mutable_data_ptr<A>() : nullptr;
    Walk walk(g.kept, 0);
    for (int64_t i = 0; i < wide.numel(); ++i, walk.go(1)) {
      const bool counted = from[i] != ignore_index;
      to[i] = counted ? from[i] : 0;
      count[i] = counted ? A(1) : A(0);
      mine[i] = static_cast<A>(values[walk.a + to[i] * apart]);
      if (!weight_of) continue;
      weight_to[i] = weight_of[to[i]];
      total_to[i] = counted ? weight_to[i] : A(0);
    }
  }
};

// The sum of the samples' losses, or their mean; l and u in acc.
std::tuple<Tensor, Tensor> reduced(const Tensor& l, const Tensor& u, int64_t reduction, at::ScalarType type) {
  const Tensor total = Call(Op::Sum, u, std::nullopt).reduce(false);
  if (reduction == kNone) return {rounded(l, type), total};
  Tensor loss = Call(Op::Sum, l, std::nullopt).reduce(false);
  if (reduction == kMean) {
    loss = Call(Op::Divide, loss, EachElement()).number(0, total).map();
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
  const Classes c(x, dim, target, weight, ignore_index);
  if (smooth.on) call.vector(0, weight, 1.0);
  const Tensor max = call.want(0), logsum = call.want(1), all = smooth.on ? call.want(2) : Tensor();
  call.run();
  Call loss_of(smooth.on ? Op::CrossEntropySmoothedLoss : Op::CrossEntropyLoss, c.input, EachElement());
  loss_of.number(0, max).number(1, logsum).number(2, c.weight, 1.0).number(3, c.counts);
  if (smooth.on) loss_of.number(4, all).number(5, smooth.keep).number(6, smooth.share);
  const Tensor l = loss_of.map();
  const auto [loss, total] = reduced(l, c.total_weight, reduction, x.scalar_type());
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
    k = Call(Op::Divide, k, EachElement()).number(0, total).map();
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
  const Classes c(x, dim, target, weight, ignore_index);
  TORCH_CHECK_NOT_IMPLEMENTED(acc == at::kDouble || classes <= 1 << 24,
                              "the gradient of cross_entropy numbers classes in float32, exact up to 2^24, got ",
                              classes);
  Call call(smooth.on ? Op::CrossEntropySmoothedBackward : Op::CrossEntropyBackward, x, along);
  call.number(0, max).number(1, logsum).number(2, k).number(3, c.counts).number(4, c.index);
  call.vector(1, at::arange(classes, x.options().dtype(acc)));
  Tensor there = weight ? c.weight : at::ones_like(c.counts);
  if (smooth.on) {
    const Tensor w = weight ? to_acc(*weight, x.scalar_type()) : at::ones({classes}, x.options().dtype(acc));
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
