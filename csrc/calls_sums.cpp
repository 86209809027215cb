// sum and its like without Python: see calls.h.
#include "calls.h"

#include <cmath>

#include "call_arguments.h"

namespace detprobe {
namespace {

template <class Op>
PyObject* reduce(const Op& op, PyObject* const* args) {
  const at::Tensor* x = plain(args[0]);
  Dims dims;
  if (x == nullptr || !PyBool_Check(args[2]) || args[3] != Py_None || !read_dims(args[1], x->dim(), dims)) {
    Py_RETURN_NONE;
  }
  return result_of([&] { return op.call(*x, optional(dims), args[2] == Py_True, Dtype()); });
}

using Reduction = at::Tensor(const at::Tensor&, Dim, bool, Dtype);

}  // namespace

// sum(x, dim, keepdim, dtype)
PyObject* call_sum(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<Reduction>("detprobe::sum");
  if (!ordinary(count, 4)) Py_RETURN_NONE;
  return reduce(op, args);
}

// mean(x, dim, keepdim, dtype)
PyObject* call_mean(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<Reduction>("detprobe::mean");
  if (!ordinary(count, 4)) Py_RETURN_NONE;
  return reduce(op, args);
}

// exact_sum(x, dim, keepdim, dtype)
PyObject* call_exact_sum(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<Reduction>("detprobe::exact_sum");
  if (!ordinary(count, 4)) Py_RETURN_NONE;
  return reduce(op, args);
}

// cumsum(x, dim)
PyObject* call_cumsum(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<at::Tensor(const at::Tensor&, int64_t, bool, Dtype)>("detprobe::cumsum");
  if (!ordinary(count, 2)) Py_RETURN_NONE;
  Dims dims;
  const at::Tensor* x = plain_along(args[0], args[1], dims);
  if (x == nullptr) Py_RETURN_NONE;
  return result_of([&] { return op.call(*x, dims[0], false, Dtype()); });
}

// dot(a, b)
PyObject* call_dot(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<at::Tensor(const at::Tensor&, const at::Tensor&, Dim, bool)>("detprobe::dot");
  if (!ordinary(count, 2)) Py_RETURN_NONE;
  const at::Tensor *a = plain(args[0]), *b = plain(args[1]);
  if (a == nullptr || b == nullptr || a->dim() != 1 || b->dim() != 1 || a->scalar_type() != b->scalar_type() ||
      a->size(0) != b->size(0) || a->device() != b->device()) {
    Py_RETURN_NONE;
  }
  return result_of([&] { return op.call(*a, *b, Dim(), false); });
}

// vector_norm(x, ord, dim, keepdim, dtype)
PyObject* call_vector_norm(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<at::Tensor(const at::Tensor&, double, Dim, bool, Dtype)>("detprobe::vector_norm");
  if (!ordinary(count, 5)) Py_RETURN_NONE;
  const at::Tensor* x = plain(args[0]);
  if (x == nullptr || !PyBool_Check(args[3]) || args[4] != Py_None) Py_RETURN_NONE;
  double ord;
  if (PyFloat_CheckExact(args[1])) {
    ord = PyFloat_AS_DOUBLE(args[1]);
  } else if (PyLong_CheckExact(args[1])) {
    ord = PyLong_AsDouble(args[1]);
    if (PyErr_Occurred()) {
      PyErr_Clear();
      Py_RETURN_NONE;
    }
  } else {
    Py_RETURN_NONE;
  }
  Dims dims;
  const bool known = ord == 0 || ord == 1 || ord == 2 || (std::isinf(ord) && x->numel() != 0);
  if (!known || !read_dims(args[2], x->dim(), dims)) Py_RETURN_NONE;
  return result_of([&] { return op.call(*x, ord, optional(dims), args[3] == Py_True, Dtype()); });
}

}  // namespace detprobe
