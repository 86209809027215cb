// From tensors to jobs: geometry, types, allocation, stream. The same code for every device.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <optional>
#include <vector>

#include "../arith/job.h"

namespace detprobe {

using at::Tensor;
using Dims = at::OptionalIntArrayRef;

// The kernels for a tensor's device. In their place come, once `emulate` has been called, those of the emulator.
const Kernels& kernels_for(const Tensor& t);
void emulate(int64_t table);
void* stream_of(const at::Device& device);

Type type_of(const Tensor& t);
at::ScalarType acc_type(at::ScalarType type);

// As acc, side by side.
Tensor to_acc(const Tensor& t, at::ScalarType type);
// acc to a result's type: one rounding, a NaN becomes the canonical one.
Tensor rounded(const Tensor& acc, at::ScalarType type);
// A number as acc has it, for what the host computes.
double round_to(at::ScalarType acc, double value);

// In the place of dimensions: every element is a row.
struct EachElement {};

// One job on tensors. `x` decides device, types and which dimensions there are.
class Call {
 public:
  // Rows over `dims` (none given, or no dims: all of them). A `y` has the shape of x.
  Call(Op op, const Tensor& x, Dims dims, const Tensor* y = nullptr);
  Call(Op op, const Tensor& x, EachElement);

  int64_t n() const { return job_.g.n; }
  at::ScalarType acc() const { return acc_; }

  Call& number(int k, double value);
  Call& number(int k, const Tensor& each_row);
  Call& number(int k, const std::optional<Tensor>& each_row, double otherwise);
  Call& vector(int k, double value);
  Call& vector(int k, const Tensor& along_row);
  Call& vector(int k, const std::optional<Tensor>& along_row, double otherwise);
  // Asks for a number that the op computes: acc, in the shape of the rows.
  Tensor want(int k);

  // A result for each row; for each element; or nothing but what is wanted.
  Tensor reduce(bool keepdim);
  Tensor map();
  void run();
  // Not the op, but the exact sum of each row, or its prefix sums.
  Tensor exact(bool keepdim);
  Tensor scan(bool reverse);

 private:
  std::vector<int64_t> shape(bool keepdim) const;
  void start_from(Op op, const Tensor* y);
  void lay_out(const Tensor& a, const Tensor& b);
  template <class J>
  void start(J& job, const char* (*Kernels::*kernel)(const J&), int64_t (*Kernels::*workspace_bytes)(const J&));

  Job job_;
  Tensor x_, y_;
  at::ScalarType acc_;
  bool reduced_[64];
  std::vector<Tensor> kept_;  // what the job points to
};

// An op for each element, whatever the shape.
Call elementwise(Op op, const Tensor& x, const Tensor* y = nullptr);

// Registers the ops of a file for the CPU and, where there is one, for CUDA.
#ifdef DETPROBE_CUDA_VERSION
#define DETPROBE_REGISTER(function)                               \
  TORCH_LIBRARY_IMPL(detprobe, CPU, m) { detprobe::function(m); } \
  TORCH_LIBRARY_IMPL(detprobe, CUDA, m) { detprobe::function(m); }
#else
#define DETPROBE_REGISTER(function) \
  TORCH_LIBRARY_IMPL(detprobe, CPU, m) { detprobe::function(m); }
#endif

}  // namespace detprobe
