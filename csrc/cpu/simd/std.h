// What the kernels include, before any target pragma: what is shared between instruction sets is compiled for all.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../../arith/job.h"
#include "../../arith/order.h"
#include "../../arith/segments.h"
#include "../float_mode.h"
#include "../kernels.h"
