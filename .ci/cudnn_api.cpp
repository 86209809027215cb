// csrc/probes/cudnn_api.h against the real cudnn_graph.h: every value, every type, every signature. Compiles, or says
// what is wrong; is not a part of any build.
#include <cudnn_graph.h>

#include <type_traits>

#include "../csrc/probes/cudnn_api.h"

namespace api = detprobe::probes::cudnn;

namespace {

static_assert(CUDNN_MAJOR == 9, "the declarations are of cuDNN 9");

#define SAME(mine, real) static_assert(static_cast<int>(api::mine) == static_cast<int>(real), #mine " is not " #real)
SAME(kSuccess, CUDNN_STATUS_SUCCESS);
SAME(kNotInitialized, CUDNN_STATUS_NOT_INITIALIZED);
SAME(kBadParam, CUDNN_STATUS_BAD_PARAM);
SAME(kNotSupported, CUDNN_STATUS_NOT_SUPPORTED);
SAME(kExecutionFailed, CUDNN_STATUS_EXECUTION_FAILED);

SAME(kFloat, CUDNN_DATA_FLOAT);
SAME(kDouble, CUDNN_DATA_DOUBLE);
SAME(kHalf, CUDNN_DATA_HALF);
SAME(kBFloat16, CUDNN_DATA_BFLOAT16);

SAME(kConvolution, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
SAME(kEngine, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
SAME(kEngineConfig, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
SAME(kEngineHeuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
SAME(kExecutionPlan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
SAME(kKnobChoice, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
SAME(kOperationForward, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
SAME(kOperationBackwardFilter, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
SAME(kOperationBackwardData, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
SAME(kOperationGraph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
SAME(kVariantPack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
SAME(kTensor, CUDNN_BACKEND_TENSOR_DESCRIPTOR);

SAME(kTypeHandle, CUDNN_TYPE_HANDLE);
SAME(kTypeDataType, CUDNN_TYPE_DATA_TYPE);
SAME(kTypeInt64, CUDNN_TYPE_INT64);
SAME(kTypeFloat, CUDNN_TYPE_FLOAT);
SAME(kTypeDouble, CUDNN_TYPE_DOUBLE);
SAME(kTypePointer, CUDNN_TYPE_VOID_PTR);
SAME(kTypeConvolutionMode, CUDNN_TYPE_CONVOLUTION_MODE);
SAME(kTypeHeuristicMode, CUDNN_TYPE_HEUR_MODE);
SAME(kTypeKnob, CUDNN_TYPE_KNOB_TYPE);
SAME(kTypeNumericalNote, CUDNN_TYPE_NUMERICAL_NOTE);
SAME(kTypeDescriptor, CUDNN_TYPE_BACKEND_DESCRIPTOR);
SAME(kTypeBehaviorNote, CUDNN_TYPE_BEHAVIOR_NOTE);

SAME(kConvolutionComputeType, CUDNN_ATTR_CONVOLUTION_COMP_TYPE);
SAME(kConvolutionMode, CUDNN_ATTR_CONVOLUTION_CONV_MODE);
SAME(kConvolutionDilations, CUDNN_ATTR_CONVOLUTION_DILATIONS);
SAME(kConvolutionStrides, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
SAME(kConvolutionPostPaddings, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
SAME(kConvolutionPrePaddings, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
SAME(kConvolutionSpatialDims, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS);
SAME(kHeuristicsMode, CUDNN_ATTR_ENGINEHEUR_MODE);
SAME(kHeuristicsGraph, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
SAME(kHeuristicsResults, CUDNN_ATTR_ENGINEHEUR_RESULTS);
SAME(kConfigEngine, CUDNN_ATTR_ENGINECFG_ENGINE);
SAME(kConfigKnobs, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
SAME(kPlanHandle, CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
SAME(kPlanConfig, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
SAME(kPlanWorkspace, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
SAME(kKnobType, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE);
SAME(kKnobValue, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
SAME(kForwardAlpha, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA);
SAME(kForwardBeta, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA);
SAME(kForwardConvolution, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
SAME(kForwardW, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W);
SAME(kForwardX, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X);
SAME(kForwardY, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y);
SAME(kBackwardDataAlpha, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA);
SAME(kBackwardDataBeta, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA);
SAME(kBackwardDataConvolution, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC);
SAME(kBackwardDataW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W);
SAME(kBackwardDataDx, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX);
SAME(kBackwardDataDy, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY);
SAME(kBackwardFilterAlpha, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA);
SAME(kBackwardFilterBeta, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA);
SAME(kBackwardFilterConvolution, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC);
SAME(kBackwardFilterDw, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW);
SAME(kBackwardFilterX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X);
SAME(kBackwardFilterDy, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY);
SAME(kGraphHandle, CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
SAME(kGraphOps, CUDNN_ATTR_OPERATIONGRAPH_OPS);
SAME(kGraphEngineCount, CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT);
SAME(kTensorAlignment, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
SAME(kTensorDataType, CUDNN_ATTR_TENSOR_DATA_TYPE);
SAME(kTensorDimensions, CUDNN_ATTR_TENSOR_DIMENSIONS);
SAME(kTensorStrides, CUDNN_ATTR_TENSOR_STRIDES);
SAME(kTensorId, CUDNN_ATTR_TENSOR_UNIQUE_ID);
SAME(kPackIds, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
SAME(kPackPointers, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
SAME(kPackWorkspace, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
SAME(kEngineGraph, CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
SAME(kEngineIndex, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
SAME(kEngineNumericalNote, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE);
SAME(kEngineBehaviorNote, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE);

SAME(kCrossCorrelation, CUDNN_CROSS_CORRELATION);
SAME(kHeuristicFallback, CUDNN_HEUR_MODE_FALLBACK);
SAME(kHeuristicA, CUDNN_HEUR_MODE_A);
SAME(kNoteTensorCore, CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
SAME(kNoteDownConvert, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
SAME(kNoteNondeterministic, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
SAME(kNoteStrictNan, CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP);
SAME(kNoteRuntimeCompilation, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION);
SAME(kNoteCublasLt, CUDNN_BEHAVIOR_NOTE_CUBLASLT_DEPENDENCY);

// An enumeration of C crosses as int, a pointer to what is only declared as a pointer.
template <class Mine, class Real>
constexpr bool crosses() {
  if constexpr (std::is_pointer_v<Mine> || std::is_pointer_v<Real>) {
    return std::is_pointer_v<Mine> && std::is_pointer_v<Real>;
  } else if constexpr (std::is_enum_v<Real>) {
    return std::is_same_v<Mine, int> && sizeof(Real) == sizeof(int);
  } else {
    return std::is_same_v<Mine, Real>;
  }
}
template <class Mine, class... Mines, class Real, class... Reals>
constexpr bool same_call(Mine (*)(Mines...), Real (*)(Reals...)) {
  if constexpr (sizeof...(Mines) != sizeof...(Reals)) {
    return false;
  } else {
    return crosses<Mine, Real>() && (crosses<Mines, Reals>() && ...);
  }
}
#define SAME_CALL(name) \
  static_assert(same_call(decltype(api::Calls::name){}, static_cast<decltype(&::cudnn##name)>(nullptr)), #name);
DETPROBE_CUDNN_CALLS(SAME_CALL)

}  // namespace
