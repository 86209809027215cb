#include "call.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/isnan.h>
#include <ATen/WrapDimUtils.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <limits>

#include "../cpu/kernels.h"

namespace detprobe {

#ifdef DETPROBE_CUDA_VERSION
extern const Kernels kCuda;
#endif
namespace {

const Kernels* emulated = nullptr;

Tensor new_tensor(at::IntArrayRef sizes, at::ScalarType type, const Tensor& like) {
  // The dispatcher's way to an empty tensor costs more than a small reduction.
  if (like.is_cpu()) return at::detail::empty_cpu(sizes, type);
  return at::empty(sizes, like.options().dtype(type));
}

Tensor new_tensor_like(const Tensor& x) {
  return x.is_contiguous() ? new_tensor(x.sizes(), x.scalar_type(), x) : at::empty_like(x);
}

}  // namespace

const Kernels& kernels_for([[maybe_unused]] const Tensor& t) {
#ifdef DETPROBE_CUDA_VERSION
  if (t.is_cuda()) return kCuda;
#endif
  return emulated ? *emulated : cpu_kernels();
}

void emulate(int64_t table) { emulated = reinterpret_cast<const Kernels*>(table); }

void* stream_of(const at::Device& device) {
  if (device.is_cpu()) return nullptr;
  return reinterpret_cast<void*>(c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle());
}

Type type_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case at::kHalf: return Type::f16;
    case at::kBFloat16: return Type::bf16;
    case at::kFloat: return Type::f32;
    case at::kDouble: return Type::f64;
    case at::kLong: return Type::i64;
    case at::kInt: return Type::i32;
    case at::kShort: return Type::i16;
    case at::kChar: return Type::i8;
    case at::kByte:
    case at::kBool: return Type::u8;
    default: TORCH_CHECK_NOT_IMPLEMENTED(false, "detprobe has no kernel for ", t.scalar_type());
  }
}

at::ScalarType acc_type(at::ScalarType type) {
  switch (type) {
    case at::kHalf:
    case at::kBFloat16:
    case at::kFloat: return at::kFloat;
    case at::kDouble: return at::kDouble;
    default: return at::kLong;
  }
}

Tensor to_acc(const Tensor& t, at::ScalarType type) { return t.to(acc_type(type)).contiguous(); }

Tensor rounded(const Tensor& acc, at::ScalarType type) {
  if (acc.scalar_type() == type) return acc;
  // A device's own conversion leaves other NaN than the host's.
  return acc.to(type).masked_fill_(at::isnan(acc), std::numeric_limits<double>::quiet_NaN());
}

double round_to(at::ScalarType acc, double value) { return acc == at::kFloat ? static_cast<float>(value) : value; }

Call::Call(Op op, const Tensor& x, Dims dims, const Tensor* y) : x_(x), acc_(acc_type(x.scalar_type())) {
  const int64_t count = x.dim();
  const bool all = !dims || dims->empty() || count == 0;
  std::fill_n(reduced_, count, all);
  for (size_t i = 0; !all && i < dims->size(); ++i) reduced_[at::maybe_wrap_dim((*dims)[i], count)] = true;
  start_from(op, y);
}

Call::Call(Op op, const Tensor& x, EachElement) : x_(x), acc_(acc_type(x.scalar_type())) {
  std::fill_n(reduced_, x.dim(), false);
  start_from(op, nullptr);
}

void Call::start_from(Op op, const Tensor* y) {
  job_.op = op;
  job_.type = type_of(x_);
  if (y) {
    y_ = y->scalar_type() == x_.scalar_type() ? *y : y->to(x_.scalar_type());
    TORCH_CHECK(y_.sizes() == x_.sizes() && y_.device() == x_.device(), "expected two tensors of one shape and device");
  }
  lay_out(x_, y ? y_ : x_);
  job_.x = x_.const_data_ptr();
  job_.y = y ? y_.const_data_ptr() : nullptr;
}

void Call::lay_out(const Tensor& a, const Tensor& b) {
  const bool fits = split(a.sizes().data(), a.strides().data(), b.strides().data(), reduced_, a.dim(), job_.g);
  TORCH_CHECK_NOT_IMPLEMENTED(fits, "expected at most ", kMaxDims,
                              " groups of dimensions to reduce or to keep: call .contiguous() or reshape first");
}

Call& Call::number(int k, double value) {
  job_.p_constant[k] = value;
  return *this;
}
Call& Call::number(int k, const Tensor& each_row) {
  kept_.push_back(to_acc(each_row, acc_));
  TORCH_CHECK(kept_.back().numel() == job_.g.rows, "expected a number for each of ", job_.g.rows, " rows, got ",
              kept_.back().numel());
  job_.p[k] = kept_.back().const_data_ptr();
  return *this;
}
Call& Call::number(int k, const std::optional<Tensor>& each_row, double otherwise) {
  return each_row && each_row->defined() ? number(k, *each_row) : number(k, otherwise);
}
Call& Call::vector(int k, double value) {
  job_.e_constant[k] = value;
  return *this;
}
Call& Call::vector(int k, const Tensor& along_row) {
  kept_.push_back(to_acc(along_row, acc_));
  TORCH_CHECK(kept_.back().numel() == job_.g.n, "expected ", job_.g.n, " numbers along a row, got ",
              kept_.back().numel());
  job_.e[k] = kept_.back().const_data_ptr();
  return *this;
}
Call& Call::vector(int k, const std::optional<Tensor>& along_row, double otherwise) {
  return along_row && along_row->defined() ? vector(k, *along_row) : vector(k, otherwise);
}

Tensor Call::want(int k) {
  Tensor t = new_tensor(shape(false), acc_, x_);
  job_.p_out[k] = t.mutable_data_ptr();
  return t;
}

std::vector<int64_t> Call::shape(bool keepdim) const {
  std::vector<int64_t> sizes;
  sizes.reserve(x_.dim());
  for (int64_t d = 0; d < x_.dim(); ++d) {
    if (!reduced_[d] || keepdim) sizes.push_back(reduced_[d] ? 1 : x_.size(d));
  }
  return sizes;
}

Tensor Call::reduce(bool keepdim) {
  Tensor out = new_tensor(shape(keepdim), acc_ == at::kLong ? at::kLong : x_.scalar_type(), x_);
  job_.out = out.mutable_data_ptr();
  run();
  return out;
}

Tensor Call::map() {
  Tensor out = new_tensor_like(x_);
  if (out.strides() != x_.strides()) {  // x has holes or overlaps
    x_ = x_.contiguous();
    job_.x = x_.const_data_ptr();
    out = new_tensor_like(x_);
    lay_out(x_, y_.defined() ? y_ : x_);
  }
  job_.out = out.mutable_data_ptr();
  run();
  return out;
}

// Brings a workspace and the stream, calls, and says what went wrong.
template <class J>
void Call::start(J& job, const char* (*Kernels::*kernel)(const J&), int64_t (*Kernels::*workspace_bytes)(const J&)) {
  const c10::DeviceGuard guard(x_.device());
  const Kernels& kernels = kernels_for(x_);
  Tensor workspace;
  if (const int64_t bytes = (kernels.*workspace_bytes)(job)) {
    workspace = new_tensor({bytes}, at::kByte, x_);
    job.workspace = workspace.mutable_data_ptr();
  }
  job.stream = stream_of(x_.device());
  const char* error = (kernels.*kernel)(job);
  TORCH_CHECK(error == nullptr, "detprobe: ", kernels.name, " says ", error);
}

void Call::run() { start(job_, &Kernels::run, &Kernels::run_workspace); }

Tensor Call::exact(bool keepdim) {
  Tensor out = new_tensor(shape(keepdim), x_.scalar_type(), x_);
  ExactJob job;
  job.type = job_.type;
  job.g = job_.g;
  job.x = job_.x;
  job.out = out.mutable_data_ptr();
  start(job, &Kernels::exact, &Kernels::exact_workspace);
  return out;
}

Tensor Call::scan(bool reverse) {
  Tensor out = new_tensor_like(x_);
  lay_out(x_, out);
  ScanJob job;
  job.type = job_.type;
  job.g = job_.g;
  job.reverse = reverse;
  job.x = job_.x;
  job.out = out.mutable_data_ptr();
  start(job, &Kernels::scan, &Kernels::scan_workspace);
  return out;
}

Call elementwise(Op op, const Tensor& x, const Tensor* y) { return Call(op, x, std::nullopt, y); }

}  // namespace detprobe
