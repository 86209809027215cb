// The launches of the atomic sum, compiled by nvcc; the kernels are in the .cuh, which the emulator runs too.
#include "atomic_add.cuh"
#include "atomic_add.h"

namespace detprobe::probes {

const char* launch_atomic_add(Type type, const void* x, int64_t n, int64_t bins, void* sums, uint32_t* tickets,
                              uint32_t* next, void* stream) {
  with_type<half_t, bfloat_t>(type, [&](auto of) {
    using T = decltype(of);
    run_atomic_add(static_cast<const T*>(x), n, bins, static_cast<T*>(sums), tickets, next,
                   static_cast<Stream>(stream));
  });
  const cudaError_t error = cudaGetLastError();  // of the launch; never waits
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace detprobe::probes
