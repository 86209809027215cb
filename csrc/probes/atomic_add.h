// One sum by atomic additions, on a CPU and on a GPU: plain pointers and a stream, no torch.
#pragma once

#include <cstdint>

namespace detprobe::probes {

// The formats that can be summed, as Python names them (detprobe/probes/_native.py).
enum class Type : int32_t { kHalf, kBFloat, kFloat, kDouble };

// Calls f(T{}) for the type's T, one of half_t, bfloat_t, float, double.
template <class Half, class BFloat, class F>
void with_type(Type type, const F& f) {
  switch (type) {
    case Type::kHalf: return f(Half{});
    case Type::kBFloat: return f(BFloat{});
    case Type::kFloat: return f(float{});
    case Type::kDouble: return f(double{});
  }
}

// `runs` sums of the same n numbers into `bins` places by `threads` threads with compare-exchange: element i goes to
// place i % bins. Thread t takes the chunks t, t + threads, ... of `chunk` numbers.
//   sums     [runs, bins] of the type
//   tickets  [runs, ceil(n / chunk)]: how many chunks had been begun when this one was
//   seconds  [runs]: from the common start to the last addition
void add_by_threads(Type type, const void* x, int64_t n, int64_t bins, int threads, int64_t chunk, int64_t runs,
                    void* sums, uint32_t* tickets, double* seconds);

// One such sum by the CUDA kernels. Returns CUDA's error text, or null; never waits. Only in a build with CUDA.
const char* launch_atomic_add(Type type, const void* x, int64_t n, int64_t bins, void* sums, uint32_t* tickets,
                              uint32_t* next, void* stream);

}  // namespace detprobe::probes
