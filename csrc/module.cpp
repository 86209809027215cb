// The Python module `detprobe._C`. Importing it loads the library, and that registers the ops.
#include "calls.h"

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C() {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", nullptr, -1, detprobe::kCalls, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
