// The convolution of cudnn_conv.h: the library by dlopen, its descriptors as owned objects, and the enumeration.
#include "cudnn_conv.h"

#include <dlfcn.h>

#include <array>
#include <cstring>
#include <utility>

namespace detprobe::probes {

using namespace cudnn;

// The loaded library, and its handle. It stays loaded: torch has it open too, and its threads may still run at exit.
class Library {
 public:
  Library(const std::string& file, uintptr_t stream) {
    void* opened = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (opened == nullptr) throw CudnnError(std::string("cuDNN cannot be loaded: ") + dlerror());
#define DETPROBE_LOAD(name) load(opened, "cudnn" #name, call.name, file);
    DETPROBE_CUDNN_CALLS(DETPROBE_LOAD)
#undef DETPROBE_LOAD
    check(call.Create(&handle), "cudnnCreate");
    const Status status = call.SetStream(handle, reinterpret_cast<struct CUstream_st*>(stream));
    if (status != kSuccess) {
      const std::string words = said(status);
      call.Destroy(handle);
      throw CudnnError("cudnnSetStream: " + words);
    }
  }
  ~Library() { call.Destroy(handle); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  // cuDNN's name of the error and, where it has one, the first line of what it adds: the rest is a log.
  std::string said(Status status) const {
    std::array<char, 512> detail{};
    call.GetLastErrorString(detail.data(), detail.size() - 1);
    const std::string more(detail.data(), std::strcspn(detail.data(), "\n"));
    return call.GetErrorString(status) + (more.empty() ? more : " (" + more + ")");
  }

  void check(Status status, const char* doing) const {
    if (status != kSuccess) throw CudnnError(std::string(doing) + ": " + said(status));
  }

  Calls call{};
  Handle handle = nullptr;

 private:
  template <class F>
  static void load(void* opened, const char* name, F& into, const std::string& file) {
    into = reinterpret_cast<F>(dlsym(opened, name));
    if (into == nullptr) throw CudnnError(file + " has no " + name + ": expected cuDNN 9");
  }
};

// Owns a backend descriptor, and the library that it is of.
class Descriptor {
 public:
  Descriptor(std::shared_ptr<Library> library, DescriptorType type) : library_(std::move(library)) {
    library_->check(library_->call.BackendCreateDescriptor(type, &raw_), "cudnnBackendCreateDescriptor");
  }
  ~Descriptor() {
    if (raw_ != nullptr) library_->call.BackendDestroyDescriptor(raw_);
  }
  Descriptor(Descriptor&& other) noexcept : library_(other.library_), raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  template <class T>
  Descriptor& set(Attribute attribute, AttributeType type, const T* values, size_t count) {
    library_->check(library_->call.BackendSetAttribute(raw_, attribute, type, static_cast<int64_t>(count), values),
                    "cudnnBackendSetAttribute");
    return *this;
  }
  template <class T>
  Descriptor& set(Attribute attribute, AttributeType type, const T& value) {
    return set(attribute, type, &value, 1);
  }
  Descriptor& set(Attribute attribute, const Sizes& values) {
    return set(attribute, kTypeInt64, values.data(), values.size());
  }
  Descriptor& set(Attribute attribute, const Descriptor& value) { return set(attribute, kTypeDescriptor, value.raw_); }

  Descriptor& finalize(const char* doing) {
    library_->check(library_->call.BackendFinalize(raw_), doing);
    return *this;
  }

  template <class T>
  T get(Attribute attribute, AttributeType type) const {
    T value{};
    fill(attribute, type, &value, 1);
    return value;
  }

  // Writes up to `room` values and returns how many there are.
  template <class T>
  int64_t fill(Attribute attribute, AttributeType type, T* values, int64_t room) const {
    int64_t count = 0;
    library_->check(library_->call.BackendGetAttribute(raw_, attribute, type, room, &count, values),
                    "cudnnBackendGetAttribute");
    return count;
  }

  // An attribute that is a list of descriptors: cuDNN fills those that the caller has made.
  std::vector<Descriptor> list(Attribute attribute, DescriptorType of) const {
    const int64_t count = fill<void*>(attribute, kTypeDescriptor, nullptr, 0);
    std::vector<Descriptor> made;
    for (int64_t i = 0; i < count; ++i) made.emplace_back(library_, of);
    std::vector<void*> raw;
    for (const Descriptor& one : made) raw.push_back(one.raw_);
    const int64_t there = raw.empty() ? 0 : fill(attribute, kTypeDescriptor, raw.data(), count);
    while (static_cast<int64_t>(made.size()) > there) made.pop_back();
    return made;
  }

  void* raw() const { return raw_; }

 private:
  std::shared_ptr<Library> library_;
  void* raw_ = nullptr;
};

namespace {

constexpr int64_t kIdX = 'x', kIdW = 'w', kIdY = 'y';
constexpr int64_t kAlignment = 16;  // bytes, which every allocator gives

// What differs between the three operations.
struct Names {
  DescriptorType type;
  Attribute alpha, beta, convolution, x, w, y;
};
constexpr Names kNames[] = {
    {kOperationForward, kForwardAlpha, kForwardBeta, kForwardConvolution, kForwardX, kForwardW, kForwardY},
    {kOperationBackwardData, kBackwardDataAlpha, kBackwardDataBeta, kBackwardDataConvolution, kBackwardDataDx,
     kBackwardDataW, kBackwardDataDy},
    {kOperationBackwardFilter, kBackwardFilterAlpha, kBackwardFilterBeta, kBackwardFilterConvolution, kBackwardFilterX,
     kBackwardFilterDw, kBackwardFilterDy}};

using Owner = std::shared_ptr<Library>;

Descriptor tensor(const Owner& library, const TensorShape& shape, int64_t id, int type) {
  Descriptor made(library, kTensor);
  made.set(kTensorDataType, kTypeDataType, type).set(kTensorDimensions, shape.sizes);
  made.set(kTensorStrides, shape.strides).set(kTensorId, kTypeInt64, id);
  made.set(kTensorAlignment, kTypeInt64, kAlignment).finalize("tensor");
  return made;
}

Descriptor convolution(const Owner& library, const ConvolutionShape& shape) {
  Descriptor made(library, kConvolution);
  const auto dims = static_cast<int64_t>(shape.stride.size());
  const int mode = kCrossCorrelation;
  made.set(kConvolutionComputeType, kTypeDataType, shape.compute).set(kConvolutionSpatialDims, kTypeInt64, dims);
  made.set(kConvolutionMode, kTypeConvolutionMode, mode).set(kConvolutionStrides, shape.stride);
  made.set(kConvolutionPrePaddings, shape.padding).set(kConvolutionPostPaddings, shape.padding);
  made.set(kConvolutionDilations, shape.dilation).finalize("convolution");
  return made;
}

Descriptor graph(const Owner& library, Operation operation, const ConvolutionShape& shape) {
  const Names& names = kNames[static_cast<int>(operation)];
  const Descriptor x = tensor(library, shape.x, kIdX, shape.type), w = tensor(library, shape.w, kIdW, shape.type);
  const Descriptor y = tensor(library, shape.y, kIdY, shape.type), conv = convolution(library, shape);
  Descriptor node(library, names.type);
  node.set(names.convolution, conv).set(names.x, x).set(names.w, w).set(names.y, y);
  if (shape.compute == kDouble) {
    node.set(names.alpha, kTypeDouble, 1.0).set(names.beta, kTypeDouble, 0.0);
  } else {
    node.set(names.alpha, kTypeFloat, 1.0f).set(names.beta, kTypeFloat, 0.0f);
  }
  node.finalize("operation");
  Descriptor made(library, kOperationGraph);
  made.set(kGraphHandle, kTypeHandle, library->handle).set(kGraphOps, node).finalize("operation graph");
  return made;
}

template <size_t N>
std::string name_of(int note, const char* const (&names)[N]) {
  return note >= 0 && note < static_cast<int>(N) ? names[note] : "note " + std::to_string(note);
}

void take_notes(const Descriptor& engine, Plan& plan) {
  std::array<int, 32> notes{};
  int64_t count = engine.fill(kEngineNumericalNote, kTypeNumericalNote, notes.data(), notes.size());
  for (int64_t i = 0; i < count && i < static_cast<int64_t>(notes.size()); ++i) {
    plan.nondeterministic = plan.nondeterministic || notes[i] == kNoteNondeterministic;
    plan.reduced = plan.reduced || notes[i] == kNoteTensorCore || notes[i] == kNoteDownConvert;
    plan.notes.push_back(name_of(notes[i], kNumericalNotes));
  }
  count = engine.fill(kEngineBehaviorNote, kTypeBehaviorNote, notes.data(), notes.size());
  for (int64_t i = 0; i < count && i < static_cast<int64_t>(notes.size()); ++i) {
    plan.notes.push_back(name_of(notes[i], kBehaviorNotes));
  }
}

std::string knobs_of(const Descriptor& config) {
  std::string text;
  for (const Descriptor& knob : config.list(kConfigKnobs, kKnobChoice)) {
    text += (text.empty() ? "" : " ") + std::to_string(knob.get<int>(kKnobType, kTypeKnob)) + "=" +
            std::to_string(knob.get<int64_t>(kKnobValue, kTypeInt64));
  }
  return text;
}

// The executable form of a configuration, with the workspace that it asks for.
std::shared_ptr<Descriptor> execution_plan(const Owner& library, const Descriptor& config, int64_t& workspace) {
  auto made = std::make_shared<Descriptor>(library, kExecutionPlan);
  made->set(kPlanHandle, kTypeHandle, library->handle).set(kPlanConfig, config).finalize("execution plan");
  workspace = made->get<int64_t>(kPlanWorkspace, kTypeInt64);
  return made;
}

}  // namespace

void Plan::run(uintptr_t x, uintptr_t w, uintptr_t y, uintptr_t workspace) const {
  if (plan_ == nullptr) throw CudnnError("this plan was refused: " + refused);
  const std::array<int64_t, 3> ids = {kIdX, kIdW, kIdY};
  const std::array<void*, 3> pointers = {reinterpret_cast<void*>(x), reinterpret_cast<void*>(w),
                                         reinterpret_cast<void*>(y)};
  void* const scratch = reinterpret_cast<void*>(workspace);
  Descriptor pack(library_, kVariantPack);
  pack.set(kPackIds, kTypeInt64, ids.data(), ids.size()).set(kPackPointers, kTypePointer, pointers.data(), 3);
  pack.set(kPackWorkspace, kTypePointer, scratch).finalize("variant pack");
  library_->check(library_->call.BackendExecute(library_->handle, plan_->raw(), pack.raw()), "cudnnBackendExecute");
}

Session::Session(const std::string& file, uintptr_t stream) : library_(std::make_shared<Library>(file, stream)) {}

size_t Session::version() const { return library_->call.GetVersion(); }

std::vector<Plan> Session::plans(Operation operation, const ConvolutionShape& shape) const {
  const Descriptor whole = graph(library_, operation, shape);
  std::vector<Plan> found;
  // `build` fills in a plan; what cuDNN refuses on the way becomes a refused one.
  const auto add = [&](int64_t engine, const char* source, const auto& build) {
    Plan& plan = found.emplace_back();
    plan.engine = engine;
    plan.source = source;
    try {
      build(plan);
      plan.library_ = library_;
    } catch (const CudnnError& error) {
      plan.refused = error.what();
      plan.plan_ = nullptr;
    }
  };

  const auto engines = whole.get<int64_t>(kGraphEngineCount, kTypeInt64);
  for (int64_t index = 0; index < engines; ++index) {
    add(index, "engine", [&](Plan& plan) {
      Descriptor engine(library_, kEngine);
      engine.set(kEngineGraph, whole).set(kEngineIndex, kTypeInt64, index).finalize("engine");
      take_notes(engine, plan);
      Descriptor config(library_, kEngineConfig);
      config.set(kConfigEngine, engine).finalize("engine configuration");
      plan.plan_ = execution_plan(library_, config, plan.workspace);
    });
  }

  for (const auto& [mode, source] : {std::pair{kHeuristicA, "heuristic A"}, {kHeuristicFallback, "fallback"}}) {
    Descriptor heuristics(library_, kEngineHeuristics);
    std::vector<Descriptor> configs;
    try {
      heuristics.set(kHeuristicsGraph, whole).set(kHeuristicsMode, kTypeHeuristicMode, static_cast<int>(mode));
      heuristics.finalize("heuristics");
      configs = heuristics.list(kHeuristicsResults, kEngineConfig);
    } catch (const CudnnError& error) {
      add(-1, source, [&](Plan&) { throw error; });
      continue;
    }
    for (const Descriptor& config : configs) {
      add(-1, source, [&](Plan& plan) {
        std::vector<Descriptor> engine = config.list(kConfigEngine, kEngine);
        if (engine.empty()) throw CudnnError("a recommended configuration without an engine");
        plan.engine = engine[0].get<int64_t>(kEngineIndex, kTypeInt64);
        plan.knobs = knobs_of(config);
        take_notes(engine[0], plan);
        plan.plan_ = execution_plan(library_, config, plan.workspace);
      });
    }
  }
  return found;
}

}  // namespace detprobe::probes
