// The small ops for Python, without the parsing that torch.ops does: functions of the module `detprobe._C`.
//
// Each returns None where it does not want to decide: another type than torch.Tensor, a mode of __torch_function__,
// functorch, another dtype, a dimension out of range, an error of any kind. The caller (detprobe/ops) then goes the
// long way, which checks the arguments and says what is wrong. The ops are called through the dispatcher, so that
// autograd, autocast, dispatch modes and profilers see them.
#pragma once

#include <Python.h>

namespace detprobe {

// The functions, by the ops that they call: calls_sums.cpp, calls_rows.cpp, calls_scatter.cpp.
PyObject* call_sum(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_mean(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_exact_sum(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_dot(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_vector_norm(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_cumsum(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_softmax(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_layer_norm(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_cross_entropy(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_batch_norm(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_index_add(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_scatter_reduce(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* call_index_put(PyObject*, PyObject* const* args, Py_ssize_t count);

// The switch of detprobe.deterministic() (reroute_context.cpp). A session is a capsule.
PyObject* reroute_key(PyObject*, PyObject*);   // the name of the key that switches; an error where torch has none
PyObject* reroute_open(PyObject*, PyObject*);  // a new session, on for this thread
PyObject* reroute_close(PyObject*, PyObject* session);   // as it was before that session
PyObject* reroute_enable(PyObject*, PyObject*);          // a new session, on for every thread
PyObject* reroute_disable(PyObject*, PyObject*);         // whether it was on
PyObject* reroute_active(PyObject*, PyObject*);          // whether this thread reroutes
PyObject* reroute_counts(PyObject*, PyObject* session);  // ({op: replaced}, {op: uncovered})

}  // namespace detprobe
