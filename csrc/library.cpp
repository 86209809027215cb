// The schemas of detprobe's ops, once, and what a bug report wants to know of the build.
//
// torch/library.h rather than the stable ABI: rerouting aten ops needs the full dispatcher API (csrc/README.md).
#include <torch/library.h>

#include <string>

namespace {

std::string build_info() {
  std::string text = "compiler ";
#if defined(__clang__)
  text += "clang " __clang_version__;
#elif defined(__GNUC__)
  text += "gcc " __VERSION__;
#else
  text += "unknown";
#endif
  text += ", C++ " + std::to_string(__cplusplus);
#ifdef DETPROBE_CUDA_ARCHS
  text += ", CUDA " DETPROBE_CUDA_VERSION " for " DETPROBE_CUDA_ARCHS;
#else
  text += ", no CUDA";
#endif
#if defined(__x86_64__)
  text += ", x86-64";
#elif defined(__aarch64__)
  text += ", aarch64";
#endif
  return text;
}

void nothing_to_compare(const at::Tensor&, const at::Tensor&, at::Tensor, int64_t) {}
void nothing_to_digest(const at::Tensor&, at::Tensor, int64_t) {}

}  // namespace

TORCH_LIBRARY(detprobe, m) {
  m.def("compare(Tensor a, Tensor b, Tensor(c!) records, int row) -> ()");
  m.def("digest(Tensor a, Tensor(c!) records, int row) -> ()");
  m.def("build_info() -> str", build_info);
}

TORCH_LIBRARY_IMPL(detprobe, Meta, m) {
  m.impl("compare", nothing_to_compare);
  m.impl("digest", nothing_to_digest);
}
