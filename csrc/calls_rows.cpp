// softmax, the normalizations and cross_entropy without Python: see calls.h.
#include "calls.h"

#include <c10/core/GradMode.h>

#include "call_arguments.h"

namespace detprobe {
namespace {

using Maybe = std::optional<at::Tensor>;

bool read_real(PyObject* object, double& value) {
  if (!PyFloat_CheckExact(object)) return false;
  value = PyFloat_AS_DOUBLE(object);
  return true;
}

// None, or a plain tensor of the dtype, the device and the shape that are wanted.
bool read_beside(PyObject* object, const at::Tensor& x, at::IntArrayRef shape, Maybe& value) {
  if (object == Py_None) return true;
  const at::Tensor* t = plain(object);
  if (t == nullptr || t->scalar_type() != x.scalar_type() || t->device() != x.device() || t->sizes() != shape) {
    return false;
  }
  value = *t;
  return true;
}

}  // namespace

// softmax(x, dim, log)
PyObject* call_softmax(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<at::Tensor(const at::Tensor&, int64_t, bool, Dtype)>("detprobe::softmax");
  if (!ordinary(count, 3)) Py_RETURN_NONE;
  Dims dims;
  const at::Tensor* x = plain_along(args[0], args[1], dims);
  if (x == nullptr) Py_RETURN_NONE;
  return result_of([&] { return op.call(*x, dims[0], args[2] == Py_True, Dtype()); });
}

// layer_norm(x, normalized_shape, weight, bias, eps, centered)
PyObject* call_layer_norm(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<std::tuple<at::Tensor, at::Tensor, at::Tensor>(
      const at::Tensor&, int64_t, const Maybe&, const Maybe&, double, bool)>("detprobe::layer_norm");
  if (!ordinary(count, 6)) Py_RETURN_NONE;
  const at::Tensor* x = plain(args[0]);
  if (x == nullptr || !PyTuple_Check(args[1])) Py_RETURN_NONE;
  const int64_t dims = PyTuple_GET_SIZE(args[1]);
  if (dims == 0 || dims > x->dim()) Py_RETURN_NONE;
  const auto shape = x->sizes().slice(x->dim() - dims);
  for (int64_t d = 0; d < dims; ++d) {
    PyObject* size = PyTuple_GET_ITEM(args[1], d);
    int overflow = 0;
    if (!PyLong_CheckExact(size) || PyLong_AsLongLongAndOverflow(size, &overflow) != shape[d] || overflow != 0) {
      Py_RETURN_NONE;
    }
  }
  Maybe weight, bias;
  double eps;
  if (!read_beside(args[2], *x, shape, weight) || !read_beside(args[3], *x, shape, bias) || !read_real(args[4], eps)) {
    Py_RETURN_NONE;
  }
  return result_of([&] { return std::get<0>(op.call(*x, dims, weight, bias, eps, args[5] == Py_True)); });
}

// cross_entropy(x, target, weight, reduction, ignore_index, label_smoothing), for classes
PyObject* call_cross_entropy(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const Maybe&, int64_t, int64_t, double)>("detprobe::cross_entropy");
  if (!ordinary(count, 6)) Py_RETURN_NONE;
  const at::Tensor* x = plain(args[0]);
  if (x == nullptr || x->dim() < 2 || !THPVariable_CheckExact(args[1])) Py_RETURN_NONE;
  const at::Tensor& target = THPVariable_Unpack(args[1]);
  if (target.scalar_type() != at::kLong || target.layout() != at::kStrided || target.device() != x->device() ||
      target.dim() != x->dim() - 1 || target.size(0) != x->size(0) || target.sizes().slice(1) != x->sizes().slice(2)) {
    Py_RETURN_NONE;
  }
  Maybe weight;
  double smoothing;
  int overflow = 0;
  if (!read_beside(args[2], *x, {x->size(1)}, weight) || (weight && weight->requires_grad()) ||
      !PyLong_CheckExact(args[3]) || !PyLong_CheckExact(args[4]) || !read_real(args[5], smoothing) ||
      !(smoothing >= 0 && smoothing <= 1)) {
    Py_RETURN_NONE;
  }
  const int64_t reduction = PyLong_AsLongLongAndOverflow(args[3], &overflow);
  const int64_t ignored = PyLong_AsLongLongAndOverflow(args[4], &overflow);
  if (overflow != 0) Py_RETURN_NONE;
  return result_of([&] { return std::get<0>(op.call(*x, target, weight, reduction, ignored, smoothing)); });
}

// batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
PyObject* call_batch_norm(PyObject*, PyObject* const* args, Py_ssize_t count) {
  using Four = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
  static const auto train =
      find<Four(const at::Tensor&, const Maybe&, const Maybe&, double)>("detprobe::batch_norm_training");
  static const auto infer =
      find<std::tuple<at::Tensor, at::Tensor>(const at::Tensor&, const at::Tensor&, const at::Tensor&, const Maybe&,
                                              const Maybe&, double)>("detprobe::batch_norm_inference");
  static const auto average =
      find<at::Tensor(const at::Tensor&, const at::Tensor&, double, double)>("detprobe::running_average");
  if (!ordinary(count, 8)) Py_RETURN_NONE;
  const at::Tensor* x = plain(args[0]);
  if (x == nullptr || x->dim() < 2 || !PyBool_Check(args[5])) Py_RETURN_NONE;
  const int64_t channels = x->size(1);
  const bool training = args[5] == Py_True;
  Maybe given[4];
  double momentum, eps;
  for (int i = 0; i < 4; ++i) {
    if (!read_beside(args[1 + i], *x, {channels}, given[i])) Py_RETURN_NONE;
  }
  const auto& [mean, var, weight, bias] = given;
  if (!read_real(args[6], momentum) || !read_real(args[7], eps) || !(eps > 0) || mean.has_value() != var.has_value()) {
    Py_RETURN_NONE;
  }
  if (!training) {
    if (!mean) Py_RETURN_NONE;
    return result_of([&] { return std::get<0>(infer.call(*x, *mean, *var, weight, bias, eps)); });
  }
  if (x->numel() <= channels || (mean && (mean->requires_grad() || var->requires_grad()))) Py_RETURN_NONE;
  return result_of([&] {
    const auto [y, batch_mean, squares, rstd] = train.call(*x, weight, bias, eps);
    if (mean) {
      const c10::NoGradGuard guard;
      const double others = static_cast<double>(x->numel() / channels - 1);
      const at::Tensor next_mean = average.call(*mean, batch_mean.detach(), 1.0, momentum);
      const at::Tensor next_var = average.call(*var, squares.detach(), others, momentum);
      mean->copy_(next_mean);
      var->copy_(next_var);
    }
    return y;
  });
}

}  // namespace detprobe
