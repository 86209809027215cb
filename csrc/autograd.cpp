// The way around Python for calls without a gradient: the kernels of AutogradCPU and AutogradCUDA.
//
// The gradients are registered from Python (detprobe/ops, torch.library.register_autograd), on the alias Autograd: a
// kernel in Python, which costs more than the sum of a hundred numbers. A kernel of a backend's own autograd key goes
// before the alias. These ask whether a gradient is wanted; where none is, they go on below autograd, and where one is,
// they go on to the kernel of AutogradOther, which is the one from Python.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/core/GradMode.h>
#include <torch/library.h>

namespace detprobe {
namespace {

struct Sum {
  static constexpr const char* name = "detprobe::sum";
  using Schema = at::Tensor(const at::Tensor&, at::OptionalIntArrayRef, bool, std::optional<at::ScalarType>);
};
struct Mean : Sum {
  static constexpr const char* name = "detprobe::mean";
};
struct Dot {
  static constexpr const char* name = "detprobe::dot";
  using Schema = at::Tensor(const at::Tensor&, const at::Tensor&, at::OptionalIntArrayRef, bool);
};
struct VectorNorm {
  static constexpr const char* name = "detprobe::vector_norm";
  using Schema = at::Tensor(const at::Tensor&, double, at::OptionalIntArrayRef, bool, std::optional<at::ScalarType>);
};

// Forward mode has no formula: refused here, since the kernel from Python would lose the tangent without a word.
bool wants_gradient(const at::Tensor& t) {
  TORCH_CHECK_NOT_IMPLEMENTED(!t._fw_grad(0).defined(),
                              "detprobe's ops have no forward-mode gradient (torch.func.jvp, torch.func.jacfwd, "
                              "torch.autograd.forward_ad): use reverse mode (torch.func.vjp, torch.func.jacrev)");
  return t.requires_grad();
}
template <class T>
bool wants_gradient(const T&) {
  return false;
}

template <class Op, class Schema = typename Op::Schema>
struct Ask;

template <class Op, class Result, class... Args>
struct Ask<Op, Result(Args...)> {
  static Result call(c10::DispatchKeySet keys, Args... args) {
    static const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow(Op::name, "").template typed<Result(Args...)>();
    const c10::DispatchKeySet below = keys & c10::after_autograd_keyset;
    if ((wants_gradient(args) | ...) && c10::GradMode::is_enabled()) {
      return op.redispatch(below.add(c10::DispatchKey::AutogradOther), args...);
    }
    at::AutoDispatchBelowAutograd guard;
    return op.redispatch(below, args...);
  }
};

// The same for the ops where boxed arguments do no harm.
void ask_boxed(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  bool wanted = false;
  for (const c10::IValue& value : torch::jit::last(*stack, op.schema().arguments().size())) {
    wanted |= value.isTensor() && value.toTensor().defined() && wants_gradient(value.toTensor());
  }
  const c10::DispatchKeySet below = keys & c10::after_autograd_keyset;
  if (wanted && c10::GradMode::is_enabled()) {
    op.redispatchBoxed(below.add(c10::DispatchKey::AutogradOther), stack);
  } else {
    at::AutoDispatchBelowAutograd guard;
    op.redispatchBoxed(below, stack);
  }
}

constexpr const char* kBoxed[] = {"exact_sum",
                                  "var",
                                  "std",
                                  "logsumexp",
                                  "cumsum",
                                  "softmax",
                                  "layer_norm",
                                  "batch_norm_training",
                                  "batch_norm_inference",
                                  "cross_entropy",
                                  "var_backward",
                                  "std_backward",
                                  "vector_norm_backward",
                                  "logsumexp_backward",
                                  "softmax_backward",
                                  "layer_norm_backward",
                                  "batch_norm_backward",
                                  "cross_entropy_backward",
                                  "multiply",
                                  "divide",
                                  "exp",
                                  "log",
                                  "index_add",
                                  "scatter_reduce",
                                  "index_put",
                                  "put",
                                  "index_copy",
                                  "scatter",
                                  "segment_reduce",
                                  "embedding",
                                  "embedding_backward",
                                  "embedding_bag",
                                  "embedding_bag_backward",
                                  "index_select",
                                  "gather",
                                  "take",
                                  "index"};

template <class Op>
void answer(torch::Library& m) {
  m.impl(Op::name, TORCH_FN((Ask<Op>::call)));
}

void answer_all(torch::Library& m) {
  answer<Sum>(m);
  answer<Mean>(m);
  answer<Dot>(m);
  answer<VectorNorm>(m);
  for (const char* name : kBoxed) m.impl(name, torch::CppFunction::makeFromBoxedFunction<&ask_boxed>());
}

TORCH_LIBRARY_IMPL(detprobe, AutogradCPU, m) { answer_all(m); }
TORCH_LIBRARY_IMPL(detprobe, AutogradCUDA, m) { answer_all(m); }

}  // namespace
}  // namespace detprobe
