// Ops that need not repeat on CUDA and for which there is no kernel of ours: in the context they are counted, and run
// as they are.
//
// The list is that of torch.use_deterministic_algorithms (torch 2.11 to 2.13), and attention's backward, whose kernels
// add with atomics. On the CPU all but max_unpool repeat.
#include "reroute.h"

#include <ATen/Context.h>
#include <ATen/ops/_adaptive_avg_pool2d_backward_ops.h>
#include <ATen/ops/_adaptive_avg_pool3d_backward_ops.h>
#include <ATen/ops/_ctc_loss_backward_ops.h>
#include <ATen/ops/_efficient_attention_backward_ops.h>
#include <ATen/ops/_flash_attention_backward_ops.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward_ops.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention_backward_ops.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_backward_ops.h>
#include <ATen/ops/_upsample_bicubic2d_aa_backward_ops.h>
#include <ATen/ops/_upsample_bilinear2d_aa_backward_ops.h>
#include <ATen/ops/adaptive_max_pool2d_backward_ops.h>
#include <ATen/ops/adaptive_max_pool3d_backward_ops.h>
#include <ATen/ops/avg_pool3d_backward_ops.h>
#include <ATen/ops/convolution_backward_ops.h>
#include <ATen/ops/cumsum_ops.h>
#include <ATen/ops/fractional_max_pool2d_backward_ops.h>
#include <ATen/ops/fractional_max_pool3d_backward_ops.h>
#include <ATen/ops/grid_sampler_2d_backward_ops.h>
#include <ATen/ops/grid_sampler_3d_backward_ops.h>
#include <ATen/ops/index_reduce_ops.h>
#include <ATen/ops/kthvalue_ops.h>
#include <ATen/ops/max_pool2d_with_indices_backward_ops.h>
#include <ATen/ops/max_pool3d_with_indices_backward_ops.h>
#include <ATen/ops/max_unpool2d_ops.h>
#include <ATen/ops/max_unpool3d_ops.h>
#include <ATen/ops/median_ops.h>
#include <ATen/ops/nanmedian_ops.h>
#include <ATen/ops/nll_loss2d_forward_ops.h>
#include <ATen/ops/reflection_pad1d_backward_ops.h>
#include <ATen/ops/reflection_pad2d_backward_ops.h>
#include <ATen/ops/reflection_pad3d_backward_ops.h>
#include <ATen/ops/replication_pad1d_backward_ops.h>
#include <ATen/ops/replication_pad2d_backward_ops.h>
#include <ATen/ops/replication_pad3d_backward_ops.h>
#include <ATen/ops/upsample_bicubic2d_backward_ops.h>
#include <ATen/ops/upsample_bilinear2d_backward_ops.h>
#include <ATen/ops/upsample_linear1d_backward_ops.h>
#include <ATen/ops/upsample_trilinear3d_backward_ops.h>

namespace detprobe::reroute {
namespace {

// The first argument decides: it is the data, or a gradient of it.
struct OnCuda : Watched {
  template <class... A>
  static Verdict judge(const Tensor& x, const A&...) {
    return x.defined() && x.is_cuda() ? Verdict::uncovered : Verdict::torch;
  }
};

// Integers are added exactly.
struct FloatsOnCuda : Watched {
  template <class... A>
  static Verdict judge(const Tensor& x, const A&... args) {
    return x.defined() && at::isIntegralType(x.scalar_type(), true) ? Verdict::torch : OnCuda::judge(x, args...);
  }
};

// torch has another kernel, which repeats, for when its flag is set.
struct OnCudaWithoutFlag : Watched {
  template <class... A>
  static Verdict judge(const Tensor& x, const A&... args) {
    return at::globalContext().deterministicAlgorithms() ? Verdict::torch : OnCuda::judge(x, args...);
  }
};

struct Convolution : Watched {
  template <class... A>
  static Verdict judge(const Tensor& x, const A&... args) {
    return at::globalContext().deterministicCuDNN() ? Verdict::torch : OnCudaWithoutFlag::judge(x, args...);
  }
};

struct Anywhere : Watched {
  template <class... A>
  static Verdict judge(const Tensor& x, const A&...) {
    return has_data(x) ? Verdict::uncovered : Verdict::torch;
  }
};

template <class Judge, class... Ops>
void watch(torch::Library& m) {
  (wrap<Ops, Judge>(m), ...);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, BackendSelect, m) {
  using namespace at::_ops;
  watch<OnCuda, avg_pool3d_backward, avg_pool3d_backward_grad_input, _adaptive_avg_pool2d_backward,
        _adaptive_avg_pool3d_backward, adaptive_max_pool2d_backward, adaptive_max_pool2d_backward_grad_input,
        adaptive_max_pool3d_backward, adaptive_max_pool3d_backward_grad_input, fractional_max_pool2d_backward,
        fractional_max_pool2d_backward_grad_input, fractional_max_pool3d_backward,
        fractional_max_pool3d_backward_grad_input, max_pool2d_with_indices_backward,
        max_pool2d_with_indices_backward_grad_input>(m);
  watch<OnCuda, upsample_linear1d_backward, upsample_linear1d_backward_grad_input, upsample_bilinear2d_backward,
        upsample_bilinear2d_backward_grad_input, upsample_bicubic2d_backward, upsample_bicubic2d_backward_grad_input,
        upsample_trilinear3d_backward, upsample_trilinear3d_backward_grad_input, _upsample_bilinear2d_aa_backward,
        _upsample_bilinear2d_aa_backward_grad_input, _upsample_bicubic2d_aa_backward,
        _upsample_bicubic2d_aa_backward_grad_input, grid_sampler_2d_backward, grid_sampler_3d_backward>(m);
  watch<OnCuda, reflection_pad1d_backward, reflection_pad1d_backward_grad_input, reflection_pad2d_backward,
        reflection_pad2d_backward_grad_input, reflection_pad3d_backward, reflection_pad3d_backward_grad_input>(m);
  watch<OnCuda, nll_loss2d_forward, nll_loss2d_forward_output, _ctc_loss_backward, _ctc_loss_backward_Tensor, kthvalue,
        kthvalue_values, median_dim, median_dim_values, nanmedian_dim, nanmedian_dim_values>(m);
  watch<OnCuda, index_reduce, index_reduce_, index_reduce_out>(m);
  watch<FloatsOnCuda, cumsum, cumsum_, cumsum_out>(m);
  watch<OnCudaWithoutFlag, replication_pad1d_backward, replication_pad1d_backward_grad_input,
        replication_pad2d_backward, replication_pad2d_backward_grad_input, replication_pad3d_backward,
        replication_pad3d_backward_grad_input, max_pool3d_with_indices_backward,
        max_pool3d_with_indices_backward_grad_input, _flash_attention_backward, _efficient_attention_backward,
        _scaled_dot_product_flash_attention_backward, _scaled_dot_product_efficient_attention_backward,
        _scaled_dot_product_cudnn_attention_backward>(m);
  watch<Convolution, convolution_backward>(m);
  watch<Anywhere, max_unpool2d, max_unpool2d_out, max_unpool3d, max_unpool3d_out>(m);
}

}  // namespace detprobe::reroute
