// A stand-in for libcudnn.so.9 with the calls that the probe uses, on the host's memory: for tests.
//
// It checks what it is given as the real one does (known attributes with their types, nothing set after finalize,
// nothing read before) and counts what is alive. Its engines are planted:
//   0  computes the convolution itself, in double, and declares nothing
//   1  as 0, but every second run the first element is three floats further; declares that it is nondeterministic
//   2  as 1, and declares nothing: the one that has to be found
//   3  is refused when it is finalized
//   4  fails when it is executed
//   5  wants a workspace of 2^50 bytes
//   6  as 0, its first element one float further; declares tensor cores, and nondeterminism that it does not have
//   7  as 0, and wants 64 bytes of workspace, which it fills
// Heuristic A recommends engines 7 (with two knobs) and 1; the fallback is refused.
#include "../../csrc/probes/cudnn_api.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace api = detprobe::probes::cudnn;

namespace {

// A descriptor. What it is given it copies or shares, so that it outlives what it was made of, as in the real one.
struct Node {
  int type;
  bool final = false;
  std::map<int, std::vector<char>> values;
  std::map<int, std::vector<std::shared_ptr<Node>>> nodes;
  int64_t runs = 0;

  template <class T>
  std::vector<T> all(int attribute) const {
    const auto found = values.find(attribute);
    if (found == values.end()) return {};
    std::vector<T> out(found->second.size() / sizeof(T));
    std::memcpy(out.data(), found->second.data(), out.size() * sizeof(T));
    return out;
  }
  template <class T>
  T one(int attribute) const {
    return all<T>(attribute).at(0);
  }
  template <class T>
  void put(int attribute, T value) {
    values[attribute].resize(sizeof value);
    std::memcpy(values[attribute].data(), &value, sizeof value);
  }
  const std::shared_ptr<Node>& node(int attribute) const { return nodes.at(attribute).at(0); }
};
using Shared = std::shared_ptr<Node>;

Shared& behind(void* raw) { return *static_cast<Shared*>(raw); }

int64_t nodes_alive = 0, handles_alive = 0;
std::string last_error;

api::Status fail(api::Status status, const std::string& words) {
  last_error = words;
  return status;
}

size_t size_of(int type) {
  switch (type) {
    case api::kTypeHandle:
    case api::kTypePointer:
    case api::kTypeDescriptor: return sizeof(void*);
    case api::kTypeInt64: return 8;
    case api::kTypeDouble: return 8;
    default: return 4;
  }
}

// What each kind of descriptor needs before it can be finalized.
const std::map<int, std::set<int>> kNeeded = {
    {api::kTensor,
     {api::kTensorAlignment, api::kTensorDataType, api::kTensorDimensions, api::kTensorStrides, api::kTensorId}},
    {api::kConvolution,
     {api::kConvolutionComputeType, api::kConvolutionMode, api::kConvolutionDilations, api::kConvolutionStrides,
      api::kConvolutionPrePaddings, api::kConvolutionPostPaddings, api::kConvolutionSpatialDims}},
    {api::kOperationForward,
     {api::kForwardAlpha, api::kForwardBeta, api::kForwardConvolution, api::kForwardW, api::kForwardX, api::kForwardY}},
    {api::kOperationBackwardData,
     {api::kBackwardDataAlpha, api::kBackwardDataBeta, api::kBackwardDataConvolution, api::kBackwardDataW,
      api::kBackwardDataDx, api::kBackwardDataDy}},
    {api::kOperationBackwardFilter,
     {api::kBackwardFilterAlpha, api::kBackwardFilterBeta, api::kBackwardFilterConvolution, api::kBackwardFilterDw,
      api::kBackwardFilterX, api::kBackwardFilterDy}},
    {api::kOperationGraph, {api::kGraphHandle, api::kGraphOps}},
    {api::kEngine, {api::kEngineGraph, api::kEngineIndex}},
    {api::kEngineConfig, {api::kConfigEngine}},
    {api::kEngineHeuristics, {api::kHeuristicsGraph, api::kHeuristicsMode}},
    {api::kExecutionPlan, {api::kPlanHandle, api::kPlanConfig}},
    {api::kVariantPack, {api::kPackIds, api::kPackPointers, api::kPackWorkspace}}};

// The three tensors of an operation, whatever it computes.
struct Roles {
  Shared x, w, y, conv;
  char computed;
};
Roles roles(const Node& op) {
  if (op.type == api::kOperationForward) {
    return {op.node(api::kForwardX), op.node(api::kForwardW), op.node(api::kForwardY),
            op.node(api::kForwardConvolution), 'y'};
  }
  if (op.type == api::kOperationBackwardData) {
    return {op.node(api::kBackwardDataDx), op.node(api::kBackwardDataW), op.node(api::kBackwardDataDy),
            op.node(api::kBackwardDataConvolution), 'x'};
  }
  return {op.node(api::kBackwardFilterX), op.node(api::kBackwardFilterDw), op.node(api::kBackwardFilterDy),
          op.node(api::kBackwardFilterConvolution), 'w'};
}

struct Tensor {
  std::vector<int64_t> sizes, strides;
  float* data;
  float& at(const std::vector<int64_t>& place) const {
    int64_t offset = 0;
    for (size_t d = 0; d < place.size(); ++d) offset += place[d] * strides[d];
    return data[offset];
  }
};

bool next(std::vector<int64_t>& place, const std::vector<int64_t>& sizes) {
  for (size_t d = sizes.size(); d-- > 0;) {
    if (++place[d] < sizes[d]) return true;
    place[d] = 0;
  }
  return false;
}

// y[n, k, o] meets x[n, c, o * stride - padding + r * dilation] and w[k, c, r]; one of the three is computed.
void convolve(const Roles& role, const Tensor& x, const Tensor& w, const Tensor& y) {
  const auto strides = role.conv->all<int64_t>(api::kConvolutionStrides);
  const auto paddings = role.conv->all<int64_t>(api::kConvolutionPrePaddings);
  const auto dilations = role.conv->all<int64_t>(api::kConvolutionDilations);
  const Tensor& out = role.computed == 'x' ? x : role.computed == 'w' ? w : y;
  std::map<float*, double> sums;
  std::vector<int64_t> o(out.sizes.size(), 0);
  do sums[&out.at(o)] = 0;
  while (next(o, out.sizes));
  const int64_t groups = x.sizes[1] / w.sizes[1], per_group = w.sizes[0] / groups;
  std::vector<int64_t> place(y.sizes.size(), 0);
  do {
    std::vector<int64_t> tap(w.sizes.size(), 0);
    std::vector<int64_t> taps = w.sizes;
    taps[0] = 1;
    do {
      std::vector<int64_t> from = place, weight = tap;
      weight[0] = place[1];
      from[1] = place[1] / per_group * w.sizes[1] + tap[1];
      bool inside = true;
      for (size_t d = 2; d < place.size(); ++d) {
        from[d] = place[d] * strides[d - 2] - paddings[d - 2] + tap[d] * dilations[d - 2];
        inside = inside && from[d] >= 0 && from[d] < x.sizes[d];
      }
      if (!inside) continue;
      float &a = x.at(from), &b = w.at(weight), &c = y.at(place);
      if (role.computed == 'y') sums[&c] += static_cast<double>(a) * b;
      if (role.computed == 'x') sums[&a] += static_cast<double>(c) * b;
      if (role.computed == 'w') sums[&b] += static_cast<double>(a) * c;
    } while (next(tap, taps));
  } while (next(place, y.sizes));
  for (const auto& [where, sum] : sums) *where = static_cast<float>(sum);
}

float further(float value, int steps) {
  for (int i = 0; i < steps; ++i) value = std::nextafter(value, INFINITY);
  return value;
}

template <class T>
api::Status give(const std::vector<T>& found, int64_t wanted, int64_t* count, void* into) {
  *count = static_cast<int64_t>(found.size());
  const size_t fit = static_cast<size_t>(wanted < *count ? wanted : *count);
  if (fit > 0) std::memcpy(into, found.data(), fit * sizeof(T));
  return api::kSuccess;
}

int64_t engine_of(const Node& config) { return config.node(api::kConfigEngine)->one<int64_t>(api::kEngineIndex); }

// What heuristic A says: engine 7 with two knobs, then engine 1.
std::vector<Shared> recommended(const Node& heuristics) {
  std::vector<Shared> found;
  for (const int64_t index : {7, 1}) {
    auto engine = std::make_shared<Node>(Node{api::kEngine, true});
    engine->put(api::kEngineIndex, index);
    engine->nodes[api::kEngineGraph] = heuristics.nodes.at(api::kHeuristicsGraph);
    auto config = std::make_shared<Node>(Node{api::kEngineConfig, true});
    config->nodes[api::kConfigEngine] = {engine};
    for (int type = 1; type <= (index == 7 ? 2 : 0); ++type) {
      auto knob = std::make_shared<Node>(Node{api::kKnobChoice, true});
      knob->put(api::kKnobType, type);
      knob->put(api::kKnobValue, int64_t{10} * type);
      config->nodes[api::kConfigKnobs].push_back(knob);
    }
    found.push_back(config);
  }
  return found;
}

Tensor place(const Node& node, void* data) {
  return {node.all<int64_t>(api::kTensorDimensions), node.all<int64_t>(api::kTensorStrides), static_cast<float*>(data)};
}

api::Status execute(Node& plan, const Node& pack) {
  const Shared& config = plan.node(api::kPlanConfig);
  const int64_t engine = engine_of(*config);
  if (engine == 4) return fail(api::kExecutionFailed, "planted");
  const Shared& graph = config->node(api::kConfigEngine)->node(api::kEngineGraph);
  const Roles role = roles(*graph->node(api::kGraphOps));
  std::map<int64_t, void*> data;
  const auto ids = pack.all<int64_t>(api::kPackIds);
  const auto pointers = pack.all<void*>(api::kPackPointers);
  for (size_t i = 0; i < ids.size(); ++i) data[ids[i]] = pointers.at(i);
  const auto bound = [&](const Shared& node) { return place(*node, data.at(node->one<int64_t>(api::kTensorId))); };
  const Tensor x = bound(role.x), w = bound(role.w), y = bound(role.y);
  convolve(role, x, w, y);
  float& first = *(role.computed == 'x' ? x : role.computed == 'w' ? w : y).data;
  if ((engine == 1 || engine == 2) && plan.runs++ % 2 == 1) first = further(first, 3);
  if (engine == 6) first = further(first, 1);
  if (engine == 7) std::memset(pack.one<void*>(api::kPackWorkspace), 0x5A, 64);
  return api::kSuccess;
}

}  // namespace

#define CALL extern "C" __attribute__((visibility("default")))

CALL int64_t fake_alive() { return nodes_alive + handles_alive; }

CALL size_t cudnnGetVersion() { return 91900; }
CALL const char* cudnnGetErrorString(api::Status status) {
  switch (status) {
    case api::kBadParam: return "CUDNN_STATUS_BAD_PARAM";
    case api::kNotSupported: return "CUDNN_STATUS_NOT_SUPPORTED";
    case api::kExecutionFailed: return "CUDNN_STATUS_EXECUTION_FAILED";
    case api::kNotInitialized: return "CUDNN_STATUS_NOT_INITIALIZED";
    default: return "CUDNN_STATUS_SUCCESS";
  }
}
CALL void cudnnGetLastErrorString(char* message, size_t room) {
  std::strncpy(message, last_error.c_str(), room);
  last_error.clear();
}
CALL api::Status cudnnCreate(void** handle) {
  if (getenv("FAKE_CUDNN_WITHOUT_GPU")) return fail(api::kNotInitialized, "");
  ++handles_alive;
  *handle = new int;
  return api::kSuccess;
}
CALL api::Status cudnnDestroy(void* handle) {
  --handles_alive;
  delete static_cast<int*>(handle);
  return api::kSuccess;
}
CALL api::Status cudnnSetStream(void*, void* stream) {
  return stream == nullptr ? api::kSuccess : fail(api::kBadParam, "the host has no streams");
}
CALL api::Status cudnnBackendCreateDescriptor(int type, void** out) {
  ++nodes_alive;
  *out = new Shared(std::make_shared<Node>(Node{type}));
  return api::kSuccess;
}
CALL api::Status cudnnBackendDestroyDescriptor(void* raw) {
  --nodes_alive;
  delete static_cast<Shared*>(raw);
  return api::kSuccess;
}

CALL api::Status cudnnBackendSetAttribute(void* raw, int attribute, int type, int64_t count, const void* values) {
  Node& node = *behind(raw);
  if (node.final) return fail(api::kBadParam, "set after finalize");
  const auto known = kNeeded.find(node.type);
  if (known == kNeeded.end() || !known->second.count(attribute)) {
    return fail(api::kBadParam, "attribute " + std::to_string(attribute) + " is not one of this descriptor");
  }
  if (type != api::kTypeDescriptor) {
    const char* from = static_cast<const char*>(values);
    node.values[attribute].assign(from, from + static_cast<size_t>(count) * size_of(type));
    return api::kSuccess;
  }
  void* const* from = static_cast<void* const*>(values);
  for (int64_t i = 0; i < count; ++i) {
    if (!behind(from[i])->final) return fail(api::kBadParam, "a descriptor that is not finalized");
    node.nodes[attribute].push_back(behind(from[i]));
  }
  return api::kSuccess;
}

CALL api::Status cudnnBackendFinalize(void* raw) {
  Node& node = *behind(raw);
  for (const int attribute : kNeeded.at(node.type)) {
    if (!node.values.count(attribute) && !node.nodes.count(attribute)) {
      return fail(api::kBadParam, "attribute " + std::to_string(attribute) + " is missing");
    }
  }
  if (node.type == api::kTensor && node.one<int>(api::kTensorDataType) != api::kFloat) {
    return fail(api::kNotSupported, "float32 alone");
  }
  if (node.type == api::kEngine && node.one<int64_t>(api::kEngineIndex) == 3) {
    return fail(api::kNotSupported, "engine 3 has no kernel for this shape");
  }
  if (node.type == api::kEngineHeuristics && node.one<int>(api::kHeuristicsMode) != api::kHeuristicA) {
    return fail(api::kNotSupported, "no fallback");
  }
  node.final = true;
  return api::kSuccess;
}

CALL api::Status cudnnBackendGetAttribute(void* raw, int attribute, int, int64_t wanted, int64_t* count, void* into) {
  const Node& node = *behind(raw);
  if (!node.final) return fail(api::kBadParam, "read before finalize");
  const auto numbers = [&](auto found) { return give(found, wanted, count, into); };
  const auto nodes = [&](const std::vector<Shared>& found) {  // into descriptors that the caller has made
    *count = static_cast<int64_t>(found.size());
    for (int64_t i = 0; i < *count && i < wanted; ++i) behind(static_cast<void**>(into)[i]) = found[i];
    return static_cast<api::Status>(api::kSuccess);
  };
  switch (attribute) {
    case api::kGraphEngineCount: return numbers(std::vector<int64_t>{8});
    case api::kEngineIndex: return numbers(node.all<int64_t>(attribute));
    case api::kEngineBehaviorNote: return numbers(std::vector<int>{});
    case api::kEngineNumericalNote: {
      const auto engine = node.one<int64_t>(api::kEngineIndex);
      if (engine == 6) return numbers(std::vector<int>{api::kNoteTensorCore, api::kNoteNondeterministic});
      return numbers(engine == 1 ? std::vector<int>{api::kNoteNondeterministic, 77} : std::vector<int>{});
    }
    case api::kHeuristicsResults: return nodes(recommended(node));
    case api::kConfigEngine: return nodes(node.nodes.at(attribute));
    case api::kConfigKnobs:
      return nodes(node.nodes.count(attribute) ? node.nodes.at(attribute) : std::vector<Shared>{});
    case api::kKnobType: return numbers(node.all<int>(attribute));
    case api::kKnobValue: return numbers(node.all<int64_t>(attribute));
    case api::kPlanWorkspace: {
      const int64_t engine = engine_of(*node.node(api::kPlanConfig));
      return numbers(std::vector<int64_t>{engine == 5 ? int64_t{1} << 50 : engine == 7 ? 64 : 0});
    }
    default: return fail(api::kBadParam, "attribute " + std::to_string(attribute) + " cannot be read");
  }
}

CALL api::Status cudnnBackendExecute(void*, void* plan, void* pack) {
  if (!behind(plan)->final || !behind(pack)->final) return fail(api::kBadParam, "not finalized");
  return execute(*behind(plan), *behind(pack));
}
