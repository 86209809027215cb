// index_put and the advanced index: several indices at once, masks among them. Order: DSEG-1 of csrc/README.md.
#include <ATen/ExpandUtils.h>
#include <ATen/ops/index.h>

#include <algorithm>

#include "destinations.h"
#include "writes.h"

namespace detprobe {
namespace {

// The tensors of an advanced index, one for each dimension that it takes.
struct Advanced {
  std::vector<Tensor> tensors;  // of one shape
  std::vector<int64_t> dims;
  bool adjacent = true;
};

Advanced advanced(const char* op, const Tensor& x, const Indices& indices) {
  Advanced out;
  int64_t d = 0;
  for (const std::optional<Tensor>& one : indices) {
    if (!one || !one->defined()) {
      ++d;
      continue;
    }
    if (one->scalar_type() == at::kBool || one->scalar_type() == at::kByte) {
      for (int64_t k = 0; k < one->dim(); ++k) {
        TORCH_CHECK_INDEX(d + k < x.dim() && one->size(k) == x.size(d + k), op,
                          ": index: expected a mask whose shape is ", "that of x from dimension ", d, ", got ",
                          one->sizes(), " for ", x.sizes());
      }
      const Tensor found = one->nonzero();
      for (int64_t k = 0; k < one->dim(); ++k, ++d) {
        out.tensors.push_back(found.select(1, k));
        out.dims.push_back(d);
      }
    } else {
      TORCH_CHECK_INDEX(d < x.dim(), op, ": index: expected at most ", x.dim(), " indices, got more");
      out.tensors.push_back(one->to(at::kLong));
      out.dims.push_back(d++);
    }
  }
  TORCH_CHECK_INDEX(!out.dims.empty(), op, ": indices: expected at least one tensor, got none");
  out.tensors = at::expand_outplace(out.tensors);
  for (size_t i = 1; i < out.dims.size(); ++i) out.adjacent &= out.dims[i] == out.dims[i - 1] + 1;
  return out;
}

Destinations rows_of(const char* op, const Tensor& x, const Advanced& index) {
  if (index.dims.size() == 1) return destinations(op, index.tensors[0], x.size(index.dims[0]), /*negative=*/true);
  Tensor row;
  int64_t rows = 1;
  for (size_t i = 0; i < index.dims.size(); ++i) {
    const int64_t size = x.size(index.dims[i]);
    check_range(op, index.tensors[i], size, /*negative=*/true);
    const Tensor at = index.tensors[i].remainder(std::max<int64_t>(size, 1));
    row = i == 0 ? at : row.mul(size).add_(at);
    rows *= size;
  }
  return destinations(op, row, rows);
}

}  // namespace

void index_put_(const Tensor& self, const Indices& indices, const Tensor& values, bool accumulate) {
  check_pair("index_put", self, values);
  const Advanced index = advanced("index_put", self, indices);
  std::vector<int64_t> order = index.adjacent ? std::vector<int64_t>() : index.dims;
  for (int64_t d = 0; d < self.dim(); ++d) {
    if (index.adjacent || std::find(index.dims.begin(), index.dims.end(), d) == index.dims.end()) order.push_back(d);
  }
  const Tensor x = self.permute(order);
  const int64_t lead = index.adjacent ? index.dims[0] : 0, taken = static_cast<int64_t>(index.dims.size());
  const auto shape = index.tensors[0].sizes();
  std::vector<int64_t> whole(x.sizes().begin(), x.sizes().begin() + lead);
  whole.insert(whole.end(), shape.begin(), shape.end());
  whole.insert(whole.end(), x.sizes().begin() + lead + taken, x.sizes().end());
  Tensor records = values.expand(whole);
  Destinations to = rows_of("index_put", self, index);
  if (records.numel() == 0 || !accumulate || !is_float(x)) keyed(to);  // checks the index
  if (records.numel() == 0) return;
  if (!accumulate || !is_float(x)) {
    if (!accumulate) {
      const Tensor joined = records.flatten(lead, lead + std::max<int64_t>(index.tensors[0].dim(), 1) - 1);
      const Tensor source = index.tensors[0].dim() ? joined : records.unsqueeze(lead);
      records = source.index_select(lead, last_of_each(to, x)).view(whole);
    }
    return as_integers(self, false, [&](const Tensor& own) {
      if (accumulate)
        own.index_put_(indices, records.to(own.scalar_type()).expand(whole), true);
      else
        own.index_put_(indices, records.to(own.scalar_type()), false);
    });
  }
  side_by_side(x, [&](const Tensor& out) {
    fold_into(out, product(x.sizes().slice(0, lead)), product(x.sizes().slice(lead + taken)), to,
              records_of(records, lead, index.tensors[0].dim()), {});
  });
}

namespace {

Tensor index_put(const Tensor& x, const Indices& indices, const Tensor& values, bool accumulate) {
  Tensor out = x.clone();
  detprobe::index_put_(out, indices, values, accumulate);
  return out;
}
// A copy, which no order can change.
Tensor index(const Tensor& x, const Indices& indices) { return at::index(x, indices); }

}  // namespace

static void register_index_put(torch::Library& m) {
  m.impl("index_put", index_put);
  m.impl("index", index);
}

}  // namespace detprobe

DETPROBE_REGISTER(register_index_put)
