// Twins of the aten ops of the family, for graphs that torch.compile has compiled in the context.
//
// Inductor writes its own loops, atomics among them, for aten's index_put or scatter_add; an op that it does not know
// it calls. detprobe::rerouted_NAME has the schema and the meaning of aten::NAME, and calls it with the context on: so
// it is taken, left alone and counted as in eager mode. detprobe/rerouting/_compile.py puts them in the place of
// aten's.
#include "reroute.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/ops/_embedding_bag_dense_backward_ops.h>
#include <ATen/ops/_embedding_bag_forward_only_ops.h>
#include <ATen/ops/_embedding_bag_ops.h>
#include <ATen/ops/_unsafe_index_put_ops.h>
#include <ATen/ops/_unsafe_masked_index_put_accumulate_ops.h>
#include <ATen/ops/bincount_ops.h>
#include <ATen/ops/embedding_dense_backward_ops.h>
#include <ATen/ops/histc_ops.h>
#include <ATen/ops/index_add_ops.h>
#include <ATen/ops/index_copy_ops.h>
#include <ATen/ops/index_put_ops.h>
#include <ATen/ops/put_ops.h>
#include <ATen/ops/scatter_add_ops.h>
#include <ATen/ops/scatter_ops.h>
#include <ATen/ops/scatter_reduce_ops.h>
#include <ATen/ops/segment_reduce_ops.h>

namespace detprobe::reroute {
namespace {

const std::string kPrefix = "rerouted_";

void call_aten(const c10::OperatorHandle& twin, torch::jit::Stack* stack) {
  const c10::OperatorName& name = twin.operator_name();
  const std::string aten = "aten::" + name.name.substr(std::string("detprobe::").size() + kPrefix.size());
  const c10::impl::IncludeDispatchKeyGuard on(switch_key);
  c10::Dispatcher::singleton().findSchemaOrThrow(aten.c_str(), name.overload_name.c_str()).callBoxed(stack);
}

template <class... Ops>
void define(torch::Library& m) {
  (m.def((kPrefix + Ops::schema_str).c_str(), torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd,
                                                              torch::CppFunction::makeFromBoxedFunction<&call_aten>())),
   ...);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(detprobe, m) {
  using namespace at::_ops;
  define<index_add, index_copy, index_put, _unsafe_index_put, _unsafe_masked_index_put_accumulate, put, scatter_add,
         scatter_reduce_two, scatter_src, scatter_reduce>(m);
  define<embedding_dense_backward, _embedding_bag, _embedding_bag_forward_only, _embedding_bag_dense_backward, bincount,
         histc, segment_reduce>(m);
}

}  // namespace detprobe::reroute
