// The launches, compiled by nvcc; everything that decides anything is in the .cuh files, which the emulator runs too.
#include "compare.cuh"
#include "digest.cuh"
#include "launch.h"

namespace detprobe {
namespace {

const char* status() {
  const cudaError_t error = cudaGetLastError();  // of the launch; never waits
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace

const char* launch_compare(const void* a, const void* b, const Layout& layout, const Format& format, int64_t n,
                           void* record, void* stream) {
  run_compare(a, b, layout, format, n, static_cast<Record*>(record), static_cast<Stream>(stream));
  return status();
}

const char* launch_digest(const void* data, int64_t bytes, int32_t size, uint64_t shape, void* lanes, void* stream) {
  run_digest(data, bytes, size, shape, static_cast<uint64_t*>(lanes), static_cast<Stream>(stream));
  return status();
}

}  // namespace detprobe
