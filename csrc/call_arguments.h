// How the functions of calls.h read their arguments, and how they call.
#pragma once

#include <Python.h>

#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/SmallVector.h>
#include <pybind11/gil.h>
#include <torch/csrc/autograd/python_variable.h>

#include <algorithm>
#include <optional>

namespace detprobe {

using Dims = c10::SmallVector<int64_t, 6>;
using Dim = at::OptionalIntArrayRef;
using Dtype = std::optional<at::ScalarType>;

template <class Schema>
auto find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Schema>();
}

// A plain tensor of floating numbers, or null.
inline const at::Tensor* plain(PyObject* object) {
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

inline bool push(PyObject* object, int64_t ndim, Dims& dims) {
  if (!PyLong_CheckExact(object)) return false;
  int overflow = 0;
  const int64_t dim = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (overflow != 0 || dim < -ndim || dim >= ndim) return false;
  dims.push_back(dim < 0 ? dim + ndim : dim);
  return true;
}

// None, an int or a tuple of ints: `dims` is filled, ascending; empty stands for all. False: somebody else decides.
inline bool read_dims(PyObject* object, int64_t ndim, Dims& dims) {
  if (object == Py_None) return true;
  if (!PyTuple_CheckExact(object)) return push(object, ndim, dims);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) {
    if (!push(PyTuple_GET_ITEM(object, i), ndim, dims)) return false;
  }
  std::sort(dims.begin(), dims.end());
  return std::adjacent_find(dims.begin(), dims.end()) == dims.end();
}

// A plain tensor and one of its dimensions; null where either is something else.
inline const at::Tensor* plain_along(PyObject* object, PyObject* dim, Dims& dims) {
  const at::Tensor* x = plain(object);
  return x != nullptr && push(dim, x->dim(), dims) ? x : nullptr;
}

inline Dim optional(const Dims& dims) { return dims.empty() ? Dim() : Dim(at::IntArrayRef(dims)); }

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

inline bool ordinary(Py_ssize_t got, Py_ssize_t wanted) {
  return got == wanted && !at::impl::torch_function_mode_enabled() &&
         !c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
}

}  // namespace detprobe
