// The small ops for Python, without the parsing that torch.ops does: sum, mean, dot and vector_norm of plain tensors.
//
// Each returns None where it does not want to decide: another type than torch.Tensor, a mode of __torch_function__,
// functorch, another dtype, a dimension out of range, an error of any kind. The caller (detprobe/ops) then goes the
// long way, which checks the arguments and says what is wrong. The ops are called through the dispatcher, so that
// autograd, autocast, dispatch modes and profilers see them.
#include "calls.h"

#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/SmallVector.h>
#include <pybind11/gil.h>
#include <torch/csrc/autograd/python_variable.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace detprobe {
namespace {

using Dims = c10::SmallVector<int64_t, 6>;
using Dim = at::OptionalIntArrayRef;
using Dtype = std::optional<at::ScalarType>;

template <class Schema>
auto find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Schema>();
}

// A plain tensor of floating numbers, or null.
const at::Tensor* plain(PyObject* object) {
  if (!THPVariable_CheckExact(object)) return nullptr;
  const at::Tensor& t = THPVariable_Unpack(object);
  if (t.layout() != at::kStrided || !(t.is_cpu() || t.is_cuda())) return nullptr;
  switch (t.scalar_type()) {
    case at::kFloat:
    case at::kDouble:
    case at::kHalf:
    case at::kBFloat16: return &t;
    default: return nullptr;
  }
}

bool push(PyObject* object, int64_t ndim, Dims& dims) {
  if (!PyLong_CheckExact(object)) return false;
  int overflow = 0;
  const int64_t dim = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (overflow != 0 || dim < -ndim || dim >= ndim) return false;
  dims.push_back(dim < 0 ? dim + ndim : dim);
  return true;
}

// None, an int or a tuple of ints: `dims` is filled, ascending; empty stands for all. False: somebody else decides.
bool read_dims(PyObject* object, int64_t ndim, Dims& dims) {
  if (object == Py_None) return true;
  if (!PyTuple_CheckExact(object)) return push(object, ndim, dims);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) {
    if (!push(PyTuple_GET_ITEM(object, i), ndim, dims)) return false;
  }
  std::sort(dims.begin(), dims.end());
  return std::adjacent_find(dims.begin(), dims.end()) == dims.end();
}

Dim optional(const Dims& dims) { return dims.empty() ? Dim() : Dim(at::IntArrayRef(dims)); }

// Calls without the interpreter's lock; None after any error, which the long way will meet again and explain.
template <class Call>
PyObject* result_of(const Call& call) {
  at::Tensor result;
  try {
    const pybind11::gil_scoped_release release;
    result = call();
  } catch (...) {
    PyErr_Clear();
    Py_RETURN_NONE;
  }
  return THPVariable_Wrap(std::move(result));
}

bool ordinary(Py_ssize_t got, Py_ssize_t wanted) {
  return got == wanted && !at::impl::torch_function_mode_enabled() &&
         !c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
}

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

// sum(x, dim, keepdim, dtype)
PyObject* sum(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<Reduction>("detprobe::sum");
  if (!ordinary(count, 4)) Py_RETURN_NONE;
  return reduce(op, args);
}

// mean(x, dim, keepdim, dtype)
PyObject* mean(PyObject*, PyObject* const* args, Py_ssize_t count) {
  static const auto op = find<Reduction>("detprobe::mean");
  if (!ordinary(count, 4)) Py_RETURN_NONE;
  return reduce(op, args);
}

// dot(a, b)
PyObject* dot(PyObject*, PyObject* const* args, Py_ssize_t count) {
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
PyObject* vector_norm(PyObject*, PyObject* const* args, Py_ssize_t count) {
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

template <auto Function>
PyCFunction fast() {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(Function));
}

}  // namespace

PyMethodDef kCalls[] = {
    {"sum", fast<sum>(), METH_FASTCALL, nullptr},
    {"mean", fast<mean>(), METH_FASTCALL, nullptr},
    {"dot", fast<dot>(), METH_FASTCALL, nullptr},
    {"vector_norm", fast<vector_norm>(), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace detprobe
