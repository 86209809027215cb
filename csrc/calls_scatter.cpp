// index_add and its like without Python: see calls.h. What is wrong with an index, the long way says.
#include "calls.h"

#include <ATen/core/List.h>

#include "call_arguments.h"

namespace detprobe {
namespace {

using Plan = c10::SmallVector<at::Tensor, 2>;

bool is_index(PyObject* object, const at::Tensor& beside) {
  if (!THPVariable_CheckExact(object)) return false;
  const at::Tensor& t = THPVariable_Unpack(object);
  return t.layout() == at::kStrided && (t.scalar_type() == at::kLong || t.scalar_type() == at::kInt) &&
         t.device() == beside.device();
}

// Of one dtype and device.
const at::Tensor* plain_beside(PyObject* object, const at::Tensor& x) {
  const at::Tensor* t = plain(object);
  return t != nullptr && t->scalar_type() == x.scalar_type() && t->device() == x.device() ? t : nullptr;
}

// The order and offsets of a plan, or two None.
bool read_plan(PyObject* order, PyObject* offsets, const at::Tensor& x, int64_t size, Plan& plan) {
  if (order == Py_None && offsets == Py_None) return true;
  if (!is_index(order, x) || !is_index(offsets, x)) return false;
  plan = {THPVariable_Unpack(order), THPVariable_Unpack(offsets)};
  return plan[1].numel() == size + 1;
}

// Whether `source` is `n` slices of x along `dim`.
bool are_slices(const at::Tensor& x, int64_t dim, int64_t n, const at::Tensor& source) {
  if (source.dim() != x.dim() || source.size(dim) != n) return false;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (d != dim && source.size(d) != x.size(d)) return false;
  }
  return true;
}

// Whether no size of `index` is above those of src and, but along `dim`, of x.
bool is_covered(const at::Tensor& x, int64_t dim, const at::Tensor& index, const at::Tensor& src) {
  if (index.dim() != x.dim() || src.dim() != x.dim()) return false;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (index.size(d) > src.size(d) || (d != dim && index.size(d) > x.size(d))) return false;
  }
  return true;
}

}  // namespace

// index_add(x, dim, index, source, alpha, order, offsets)
PyObject* call_index_add(PyObject*, PyObject* const* args, Py_ssize_t count) {
  using Schema =
      at::Tensor(const at::Tensor&, int64_t, const at::Tensor&, const at::Tensor&, const at::Scalar&, at::TensorList);
  static const auto op = find<Schema>("detprobe::index_add");
  if (!ordinary(count, 7)) Py_RETURN_NONE;
  Dims dim;
  const at::Tensor* x = plain_along(args[0], args[1], dim);
  if (x == nullptr || !is_index(args[2], *x)) Py_RETURN_NONE;
  const at::Tensor& index = THPVariable_Unpack(args[2]);
  const at::Tensor* source = plain_beside(args[3], *x);
  Plan plan;
  if (source == nullptr || index.dim() > 1 || !are_slices(*x, dim[0], index.numel(), *source) ||
      !read_plan(args[5], args[6], *x, x->size(dim[0]), plan)) {
    Py_RETURN_NONE;
  }
  at::Scalar alpha = 1;
  if (PyFloat_CheckExact(args[4])) {
    alpha = PyFloat_AS_DOUBLE(args[4]);
  } else if (!PyLong_CheckExact(args[4]) || PyLong_AsLong(args[4]) != 1) {
    PyErr_Clear();
    Py_RETURN_NONE;
  }
  return result_of([&] { return op.call(*x, dim[0], index, *source, alpha, plan); });
}

// scatter_reduce(x, dim, index, src, reduce, include_self, order, offsets). With a plan the index is one of slices.
PyObject* call_scatter_reduce(PyObject*, PyObject* const* args, Py_ssize_t count) {
  using Schema = at::Tensor(const at::Tensor&, int64_t, const at::Tensor&, const at::Tensor&, c10::string_view, bool,
                            at::TensorList);
  static const auto op = find<Schema>("detprobe::scatter_reduce");
  if (!ordinary(count, 8)) Py_RETURN_NONE;
  Dims dim;
  const at::Tensor* x = plain_along(args[0], args[1], dim);
  if (x == nullptr || !is_index(args[2], *x) || !PyUnicode_CheckExact(args[4]) || !PyBool_Check(args[5])) {
    Py_RETURN_NONE;
  }
  at::Tensor index = THPVariable_Unpack(args[2]);
  const at::Tensor* src = plain_beside(args[3], *x);
  Plan plan;
  if (src == nullptr || !read_plan(args[6], args[7], *x, x->size(dim[0]), plan)) Py_RETURN_NONE;
  if (!plan.empty()) {
    if (index.dim() != 1 || !are_slices(*x, dim[0], index.numel(), *src)) Py_RETURN_NONE;
    Dims shape(x->dim(), 1);
    shape[dim[0]] = -1;
    index = index.view(shape).expand(src->sizes());
  } else if (!is_covered(*x, dim[0], index, *src)) {
    Py_RETURN_NONE;
  }
  Py_ssize_t length = 0;
  const char* name = PyUnicode_AsUTF8AndSize(args[4], &length);
  if (name == nullptr) {
    PyErr_Clear();
    Py_RETURN_NONE;
  }
  const c10::string_view reduce(name, static_cast<size_t>(length));
  return result_of([&] { return op.call(*x, dim[0], index, *src, reduce, args[5] == Py_True, plan); });
}

// index_put(x, indices, values, accumulate), for a tuple of tensors of numbers and None.
PyObject* call_index_put(PyObject*, PyObject* const* args, Py_ssize_t count) {
  using Indices = c10::List<std::optional<at::Tensor>>;
  using Schema = at::Tensor(const at::Tensor&, const Indices&, const at::Tensor&, bool);
  static const auto op = find<Schema>("detprobe::index_put");
  if (!ordinary(count, 4)) Py_RETURN_NONE;
  const at::Tensor* x = plain(args[0]);
  if (x == nullptr || !PyTuple_CheckExact(args[1]) || !PyBool_Check(args[3])) Py_RETURN_NONE;
  const at::Tensor* values = plain_beside(args[2], *x);
  const Py_ssize_t taken = PyTuple_GET_SIZE(args[1]);
  if (values == nullptr || taken > x->dim()) Py_RETURN_NONE;
  Indices indices;
  bool any = false;
  for (Py_ssize_t i = 0; i < taken; ++i) {
    PyObject* one = PyTuple_GET_ITEM(args[1], i);
    if (one == Py_None) {
      indices.push_back(std::nullopt);
      continue;
    }
    if (!is_index(one, *x)) Py_RETURN_NONE;
    indices.push_back(THPVariable_Unpack(one));
    any = true;
  }
  if (!any) Py_RETURN_NONE;
  return result_of([&] { return op.call(*x, indices, *values, args[3] == Py_True); });
}

}  // namespace detprobe
