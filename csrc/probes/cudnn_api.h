// What the probe uses of cuDNN's backend API (cudnn_graph.h), declared here, so that it compiles without that header.
//
// Facts of cuDNN 9.19.0: types, values, signatures. `.ci/cudnn_api.cpp` includes the real
// header beside this one and compares them all. Enumerations of C cross as int.
#pragma once

#include <cstddef>
#include <cstdint>

namespace detprobe::probes::cudnn {

using Handle = struct cudnnContext*;
using RawDescriptor = void*;
using Status = int;

enum StatusCode : Status {
  kSuccess = 0,
  kNotInitialized = 1001,
  kBadParam = 2000,
  kNotSupported = 3000,
  kExecutionFailed = 5000
};

enum DataType : int { kFloat = 0, kDouble = 1, kHalf = 2, kBFloat16 = 9 };

enum DescriptorType : int {
  kConvolution = 1,
  kEngine = 2,
  kEngineConfig = 3,
  kEngineHeuristics = 4,
  kExecutionPlan = 5,
  kKnobChoice = 7,
  kOperationForward = 10,
  kOperationBackwardFilter = 11,
  kOperationBackwardData = 12,
  kOperationGraph = 15,
  kVariantPack = 16,
  kTensor = 17
};

enum AttributeType : int {
  kTypeHandle = 0,
  kTypeDataType = 1,
  kTypeInt64 = 3,
  kTypeFloat = 4,
  kTypeDouble = 5,
  kTypePointer = 6,
  kTypeConvolutionMode = 7,
  kTypeHeuristicMode = 8,
  kTypeKnob = 9,
  kTypeNumericalNote = 11,
  kTypeDescriptor = 15,
  kTypeBehaviorNote = 19
};

enum Attribute : int {
  kConvolutionComputeType = 100,
  kConvolutionMode = 101,
  kConvolutionDilations = 102,
  kConvolutionStrides = 103,
  kConvolutionPostPaddings = 104,
  kConvolutionPrePaddings = 105,
  kConvolutionSpatialDims = 106,
  kHeuristicsMode = 200,
  kHeuristicsGraph = 201,
  kHeuristicsResults = 202,
  kConfigEngine = 300,
  kConfigKnobs = 302,
  kPlanHandle = 400,
  kPlanConfig = 401,
  kPlanWorkspace = 402,
  kKnobType = 600,
  kKnobValue = 601,
  kForwardAlpha = 700,
  kForwardBeta = 701,
  kForwardConvolution = 702,
  kForwardW = 703,
  kForwardX = 704,
  kForwardY = 705,
  kBackwardDataAlpha = 706,
  kBackwardDataBeta = 707,
  kBackwardDataConvolution = 708,
  kBackwardDataW = 709,
  kBackwardDataDx = 710,
  kBackwardDataDy = 711,
  kBackwardFilterAlpha = 712,
  kBackwardFilterBeta = 713,
  kBackwardFilterConvolution = 714,
  kBackwardFilterDw = 715,
  kBackwardFilterX = 716,
  kBackwardFilterDy = 717,
  kGraphHandle = 800,
  kGraphOps = 801,
  kGraphEngineCount = 802,
  kTensorAlignment = 900,
  kTensorDataType = 901,
  kTensorDimensions = 902,
  kTensorStrides = 903,
  kTensorId = 906,
  kPackIds = 1000,
  kPackPointers = 1001,
  kPackWorkspace = 1003,
  kEngineGraph = 1300,
  kEngineIndex = 1301,
  kEngineNumericalNote = 1303,
  kEngineBehaviorNote = 1305
};

enum ConvolutionMode : int { kCrossCorrelation = 1 };
enum HeuristicMode : int { kHeuristicFallback = 2, kHeuristicA = 3 };

// By number; what a later version adds is shown by its number.
constexpr const char* kNumericalNotes[] = {"tensor core",  "down-converts inputs", "reduced-precision reduction",
                                           "FFT",          "nondeterministic",     "Winograd",
                                           "Winograd 4x4", "Winograd 6x6",         "Winograd 13x13",
                                           "strict NaN"};
enum NumericalNote : int { kNoteTensorCore = 0, kNoteDownConvert = 1, kNoteNondeterministic = 4, kNoteStrictNan = 9 };
constexpr const char* kBehaviorNotes[] = {"compiles at run time", "reorders the filter", "reorders the bias",
                                          "CUDA graph native", "uses cuBLASLt"};
enum BehaviorNote : int { kNoteRuntimeCompilation = 0, kNoteCublasLt = 4 };

// The calls, by their names in the library.
struct Calls {
  size_t (*GetVersion)();
  const char* (*GetErrorString)(Status);
  void (*GetLastErrorString)(char* message, size_t max_size);
  Status (*Create)(Handle*);
  Status (*Destroy)(Handle);
  Status (*SetStream)(Handle, struct CUstream_st*);
  Status (*BackendCreateDescriptor)(int descriptor_type, RawDescriptor*);
  Status (*BackendDestroyDescriptor)(RawDescriptor);
  Status (*BackendFinalize)(RawDescriptor);
  Status (*BackendSetAttribute)(RawDescriptor, int attribute, int type, int64_t count, const void* elements);
  Status (*BackendGetAttribute)(const RawDescriptor, int attribute, int type, int64_t wanted, int64_t* count,
                                void* elements);
  Status (*BackendExecute)(Handle, RawDescriptor plan, RawDescriptor pack);
};

// clang-format off
#define DETPROBE_CUDNN_CALLS(X) \
  X(GetVersion) X(GetErrorString) X(GetLastErrorString) X(Create) \
  X(Destroy) X(SetStream) X(BackendCreateDescriptor) X(BackendDestroyDescriptor) \
  X(BackendFinalize) X(BackendSetAttribute) X(BackendGetAttribute) X(BackendExecute)
// clang-format on

}  // namespace detprobe::probes::cudnn
