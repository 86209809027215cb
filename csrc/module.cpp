// The Python module `detprobe._C`. Importing it loads the library, and that registers the ops.
#include "calls.h"

namespace detprobe {
namespace {

template <auto Function>
PyCFunction fast() {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(Function));
}

PyMethodDef functions[] = {
    {"sum", fast<call_sum>(), METH_FASTCALL, nullptr},
    {"mean", fast<call_mean>(), METH_FASTCALL, nullptr},
    {"exact_sum", fast<call_exact_sum>(), METH_FASTCALL, nullptr},
    {"dot", fast<call_dot>(), METH_FASTCALL, nullptr},
    {"vector_norm", fast<call_vector_norm>(), METH_FASTCALL, nullptr},
    {"cumsum", fast<call_cumsum>(), METH_FASTCALL, nullptr},
    {"softmax", fast<call_softmax>(), METH_FASTCALL, nullptr},
    {"layer_norm", fast<call_layer_norm>(), METH_FASTCALL, nullptr},
    {"cross_entropy", fast<call_cross_entropy>(), METH_FASTCALL, nullptr},
    {"batch_norm", fast<call_batch_norm>(), METH_FASTCALL, nullptr},
    {"index_add", fast<call_index_add>(), METH_FASTCALL, nullptr},
    {"scatter_reduce", fast<call_scatter_reduce>(), METH_FASTCALL, nullptr},
    {"index_put", fast<call_index_put>(), METH_FASTCALL, nullptr},
    {"reroute_key", reroute_key, METH_NOARGS, nullptr},
    {"reroute_open", reroute_open, METH_NOARGS, nullptr},
    {"reroute_close", reroute_close, METH_O, nullptr},
    {"reroute_enable", reroute_enable, METH_NOARGS, nullptr},
    {"reroute_disable", reroute_disable, METH_NOARGS, nullptr},
    {"reroute_active", reroute_active, METH_NOARGS, nullptr},
    {"reroute_counts", reroute_counts, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace
}  // namespace detprobe

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C() {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", nullptr, -1, detprobe::functions, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
