// The functions of the Python module `detprobe._C`.
#pragma once

#include <Python.h>

namespace detprobe {

extern PyMethodDef kCalls[];

}  // namespace detprobe
