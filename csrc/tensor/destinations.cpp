// Keys, plans and the choice of a kernel (destinations.h).
//
// The CPU's kernels take 32 bits and sort by counting. Elsewhere, and beyond 2^32, a stable sort and a binary search of
// torch's give the same plan, since there is only one. Nothing here waits for a device.
#include "destinations.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/ops/_assert_async.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scatter_reduce.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/where.h>

#include "../cpu/keys.h"
#include "../cpu/kernels.h"

namespace detprobe {
namespace {

constexpr int64_t kMost = (int64_t(1) << 32) - 2;  // rows and records that 32 bits tell apart from "none"

// Threads that pick their own records of one column; fewer of them take longer to pick than one takes to add.
constexpr int kPickers = 4;

bool on_cpu_kernels(const Tensor& t) { return t.is_cpu() && kernels_for(t).own != nullptr; }

template <class F>
auto with_index(const Tensor& index, const F& f) {
  if (index.scalar_type() == at::kInt) return f(index.const_data_ptr<int32_t>());
  return f(index.const_data_ptr<int64_t>());
}

void refuse(const char* op, const Tensor& index, int64_t position, int64_t size, bool negative) {
  const int64_t value = index.view({-1})[position].item<int64_t>();
  if (size == 0) {
    TORCH_CHECK_INDEX(false, op, ": index: expected no index for a dimension of size 0, got ", value, " at position ",
                      position);
  }
  TORCH_CHECK_INDEX(false, op, ": index: expected ", negative ? -size : 0, " to ", size - 1, " for size ", size,
                    ", got ", value, " at position ", position, ": nothing was written");
}

void check_on_cpu(const char* op, const Tensor& index, int64_t size, bool negative, int64_t none, uint32_t* keys) {
  const int64_t bad =
      with_index(index, [&](const auto* at) { return keys_of(at, index.numel(), size, negative, none, keys); });
  if (bad >= 0) refuse(op, index, bad, size, negative);
}

Tensor in_source_order(const char* op, const Tensor& index) {
  TORCH_CHECK(index.scalar_type() == at::kLong || index.scalar_type() == at::kInt, op,
              ": index: expected int32 or int64, got ", index.scalar_type());
  return index.contiguous();
}

}  // namespace

void check_range(const char* op, const Tensor& index, int64_t size, bool negative) {
  const Tensor flat = in_source_order(op, index);
  if (flat.is_cpu()) return check_on_cpu(op, flat, size, negative, -1, nullptr);
  at::_assert_async(flat.ge(negative ? -size : 0).logical_and_(flat.lt(size)).all());
}

Destinations destinations(const char* op, const Tensor& index, int64_t size, bool negative, int64_t none) {
  const Tensor flat = in_source_order(op, index);
  Destinations to;
  to.size = size;
  to.count = flat.numel();
  if (on_cpu_kernels(flat) && size <= kMost && to.count <= kMost) {
    if (flat.scalar_type() == at::kLong && none < 0) {
      to.index = flat.view({-1});
      to.op = op;
      to.negative = negative;
    } else {
      to.keys = at::detail::empty_cpu({to.count}, at::kInt);
      check_on_cpu(op, flat, size, negative, none, static_cast<uint32_t*>(to.keys.mutable_data_ptr()));
    }
    return to;
  }
  if (flat.is_cpu()) check_on_cpu(op, flat, size, negative, none, nullptr);
  Tensor keys = flat.view({-1}).to(at::kLong);
  if (negative) keys = at::where(keys.lt(0), keys.add(size), keys);
  if (none >= 0) keys = keys.masked_fill(keys.eq(none), size);
  if (!flat.is_cpu()) at::_assert_async(keys.ge(0).logical_and_(none >= 0 ? keys.le(size) : keys.lt(size)).all());
  to.keys = keys;
  return to;
}

Destinations destinations(const Plan& plan, int64_t size) {
  TORCH_CHECK(plan.offsets.numel() == size + 1, "plan: expected one for ", size, " destinations, got one for ",
              plan.offsets.numel() - 1);
  Destinations to;
  to.size = size;
  to.count = plan.order.numel();
  to.plan = plan;
  return to;
}

const Tensor& keyed(Destinations& to) {
  if (!to.keys.defined()) {
    const Tensor keys = at::detail::empty_cpu({to.count}, at::kInt);
    check_on_cpu(to.op, to.index, to.size, to.negative, -1, static_cast<uint32_t*>(keys.mutable_data_ptr()));
    to.keys = keys;
  }
  return to.keys;
}

const Plan& sorted(Destinations& to) {
  if (to.plan.defined()) return to.plan;
  if (keyed(to).scalar_type() == at::kInt) {
    to.plan = {at::detail::empty_cpu({to.count}, at::kLong), at::detail::empty_cpu({to.size + 1}, at::kLong)};
    sort_keys(static_cast<const uint32_t*>(to.keys.const_data_ptr()), to.count, to.size,
              to.plan.order.mutable_data_ptr<int64_t>(), to.plan.offsets.mutable_data_ptr<int64_t>());
    return to.plan;
  }
  // Half the bits are half the passes of a radix sort.
  const Tensor keys = to.size < INT32_MAX ? to.keys.to(at::kInt) : to.keys;
  auto [values, order] = at::sort(keys, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  to.plan = {order, at::searchsorted(values, at::arange(to.size + 1, keys.options()))};
  return to.plan;
}

Tensor last_of_each(Destinations& to, const Tensor& like) {
  const auto options = like.options().dtype(at::kLong);
  if (keyed(to).scalar_type() == at::kInt) {
    const Tensor last = at::empty({to.size + 1}, options), winner = at::empty({to.count}, options);
    const auto* keys = static_cast<const uint32_t*>(to.keys.const_data_ptr());
    auto *of_row = last.mutable_data_ptr<int64_t>(), *out = winner.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < to.count; ++i) of_row[keys[i]] = i;
    for (int64_t i = 0; i < to.count; ++i) out[i] = of_row[keys[i]];
    return winner;
  }
  // The largest position: integers, in any order.
  const Tensor last = at::full({to.size + 1}, -1, options)
                          .scatter_reduce_(0, to.keys, at::arange(to.count, options), "amax", /*include_self=*/false);
  return last.index_select(0, to.keys);
}

Plan index_plan(const Tensor& index, int64_t size) {
  Destinations to = destinations("index_plan", index, size);
  return sorted(to);
}

Records records_of(Tensor& source, int64_t lead, int64_t middle) {
  for (bool again = false;; again = true) {
    Layout part[3];
    const int64_t begins[] = {0, lead, lead + middle, source.dim()};
    bool fits = true;
    for (int k = 0; k < 3; ++k) {
      const int64_t* strides = source.strides().data() + begins[k];
      fits &= join(source.sizes().data() + begins[k], strides, strides, begins[k + 1] - begins[k], part[k]) &&
              part[k].dims <= 1;
    }
    fits &= part[2].dims == 0 || part[2].a[0] == 1;
    if (fits || again) {
      const auto stride = [&](int k, int64_t alone) { return part[k].dims ? part[k].a[0] : alone; };
      return {source.const_data_ptr(), stride(0, 0), stride(1, 0), stride(2, 1)};
    }
    source = source.contiguous();
  }
}

bool needs_no_sort(const Tensor& out, const Folding& how) {
  const at::ScalarType type = out.scalar_type();
  return how.fold == Fold::sum && how.start != Start::first && !how.divided && !how.weight.defined() &&
         !how.from.defined() && (type == at::kFloat || type == at::kDouble);
}

// One column and few threads, and an index that is a row's number everywhere.
static bool is_taken_as_it_comes(const Destinations& to, int64_t columns) {
  if (!to.index.defined() || columns != 1 || at::get_num_threads() >= kPickers) return false;
  return !to.negative || keys_of(to.index.const_data_ptr<int64_t>(), to.count, to.size, false, -1, nullptr) < 0;
}

void fold_into(const Tensor& out, int64_t batch, int64_t columns, Destinations& to, const Records& source,
               const Folding& how) {
  TORCH_CHECK(at::isFloatingType(out.scalar_type()), "detprobe: expected records of floats, got ", out.scalar_type());
  if (to.count == 0) return;
  if (out.numel() == 0) {
    if (to.index.defined()) keyed(to);  // checks it
    return;
  }
  const c10::DeviceGuard guard(out.device());
  const Kernels& kernels = kernels_for(out);
  const Type type = type_of(out);
  const bool scaled = how.alpha != 1.0;
  const char* error;
  if (needs_no_sort(out, how) && !to.plan.defined() && (to.index.defined() || to.keys.scalar_type() == at::kInt)) {
    OwnerJob job;
    job.type = type;
    job.scaled = scaled;
    job.alpha = how.alpha;
    job.batch = batch, job.rows = to.size, job.columns = columns, job.records = to.count;
    int64_t bad = -1;
    if (is_taken_as_it_comes(to, columns)) {
      if (!how.fresh || batch > 1) check_on_cpu(to.op, to.index, to.size, false, -1, nullptr);
      job.bad = &bad;
      job.counted = !to.is_sparse && to.count > kChunk;
      job.index = to.index.const_data_ptr<int64_t>();
    } else {
      job.keys = static_cast<const uint32_t*>(keyed(to).const_data_ptr());
    }
    job.source = source;
    job.out = out.mutable_data_ptr();
    error = kernels.own(job);
    if (bad >= 0) refuse(to.op, to.index, bad, to.size, false);
  } else {
    const Plan& plan = sorted(to);
    SegmentJob job;
    job.fold = how.fold, job.start = how.start, job.type = type;
    job.divided = how.divided;
    job.scaled = scaled;
    job.alpha = how.alpha;
    job.batch = batch, job.rows = to.size, job.columns = columns, job.slots = to.count;
    if (plan.order.defined()) job.order = plan.order.const_data_ptr<int64_t>();
    job.offsets = plan.offsets.const_data_ptr<int64_t>();
    if (how.from.defined()) job.from = how.from.const_data_ptr<int64_t>();
    if (how.weight.defined()) job.weight = how.weight.const_data_ptr();
    job.source = source;
    job.out = out.mutable_data_ptr();
    job.stream = stream_of(out.device());
    Tensor workspace;
    if (const int64_t bytes = kernels.fold_workspace(job)) {
      workspace = at::empty({bytes}, out.options().dtype(at::kByte));
      job.workspace = workspace.mutable_data_ptr();
    }
    error = kernels.fold(job);
  }
  TORCH_CHECK(error == nullptr, "detprobe: ", kernels.name, " says ", error);
}

}  // namespace detprobe
