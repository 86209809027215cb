// Is CUB's gpu_to_gpu sum of zeros zero? Its accumulator bins numbers by exponent, and from its source one cannot tell.
//
//   nvcc -std=c++17 -arch=native -I"$CCCL_INCLUDE" -o cub_zero benchmarks/cub_zero.cu && ./cub_zero
//
// CCCL_INCLUDE is the folder include/cccl of the nvidia-cuda-cccl wheel, 13.1 or later: the headers of CUDA 13.0 have
// no gpu_to_gpu. Prints a line for each type, size and zero, with the bits of the sum. Status 0 if all are zeros, 1 if
// one is not, 3 without a GPU.
#include <cub/device/device_reduce.cuh>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

void check(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "cub_zero: %s: %s\n", doing, cudaGetErrorString(error));
  std::exit(error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ? 3 : 2);
}

// Prints the sum of n times `zero`, and returns whether it is a zero.
template <class T>
bool sum_of(const char* type, T zero, int n) {
  T *in = nullptr, *out = nullptr, sum = 1;
  check(cudaMalloc(&in, n * sizeof(T)), "cudaMalloc");
  check(cudaMalloc(&out, sizeof(T)), "cudaMalloc");
  const std::vector<T> zeros(n, zero);
  check(cudaMemcpy(in, zeros.data(), n * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  const auto env = cuda::execution::require(cuda::execution::determinism::gpu_to_gpu);
  check(cub::DeviceReduce::Sum(in, out, n, env), "cub::DeviceReduce::Sum");
  check(cudaMemcpy(&sum, out, sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
  check(cudaFree(in), "cudaFree");
  check(cudaFree(out), "cudaFree");
  uint64_t bits = 0;
  std::memcpy(&bits, &sum, sizeof sum);
  std::printf("%-6s n = %8d of %s0: %.9g, bits %0*llx%s\n", type, n, std::signbit(zero) ? "-" : "+",
              static_cast<double>(sum), static_cast<int>(2 * sizeof(T)), static_cast<unsigned long long>(bits),
              sum == 0 ? "" : "  NOT ZERO");
  return sum == 0;
}

}  // namespace

int main() {
  int devices = 0;
  check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  bool fine = true;
  for (const int n : {1, 2, 1000, 1 << 20}) {
    fine = sum_of("float", 0.0f, n) && fine;
    fine = sum_of("float", -0.0f, n) && fine;
    fine = sum_of("double", 0.0, n) && fine;
    fine = sum_of("double", -0.0, n) && fine;
  }
  std::printf("CUB's gpu_to_gpu sum of zeros is %s\n", fine ? "zero" : "not zero");
  return fine ? 0 : 1;
}
