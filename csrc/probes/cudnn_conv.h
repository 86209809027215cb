// One convolution on every engine that cuDNN has for it.
//
// The backend API, and not the legacy algorithms: those are eight forward, six and seven backward and deprecated, while
// torch and cudnn.benchmark choose among the backend's engines; and a legacy algorithm tells nothing of its numerics.
// The library is loaded when it is asked for, so nothing here needs cuDNN or CUDA to compile, to link or to import.
// Memory is the caller's: addresses come in, workspaces too. On a GPU they are device memory; a library that stands in
// for cuDNN in a test may work on the host's.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "cudnn_api.h"

namespace detprobe::probes {

using Sizes = std::vector<int64_t>;

// What cuDNN said, in its own words behind ours.
struct CudnnError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Operation : int { kForward, kBackwardData, kBackwardFilter };

// A tensor as cuDNN sees it: [n, c, spatial...], [k, c / groups, spatial...].
struct TensorShape {
  Sizes sizes, strides;
};

struct ConvolutionShape {
  TensorShape x, w, y;
  Sizes stride, padding, dilation;
  int type = cudnn::kFloat;     // of the data
  int compute = cudnn::kFloat;  // of the sums
};

class Library;
class Descriptor;

// One way to compute one operation. A refused one holds cuDNN's words and cannot run.
class Plan {
 public:
  int64_t engine = -1;
  std::string source;              // "engine": with default knobs; "heuristic A", "fallback": as cuDNN recommends it
  std::string knobs;               // "type=value ..." of a recommended one
  std::vector<std::string> notes;  // numerical and behaviour notes
  bool nondeterministic = false;   // declared to be so
  bool reduced = false;            // tensor cores or down-converted inputs: for float32 data that is TF32
  int64_t workspace = 0;           // bytes
  std::string refused;

  // y, or whichever of the three the operation computes, is overwritten. Does not wait. Throws CudnnError.
  void run(uintptr_t x, uintptr_t w, uintptr_t y, uintptr_t workspace) const;

 private:
  friend class Session;
  std::shared_ptr<Library> library_;
  std::shared_ptr<Descriptor> plan_;
};

// A cuDNN handle on one stream.
class Session {
 public:
  // Throws CudnnError when the file cannot be loaded, lacks a call, or finds no GPU.
  Session(const std::string& file, uintptr_t stream);

  size_t version() const;

  // Every engine with its default knobs, then what the heuristics recommend, the best first.
  // Throws CudnnError when cuDNN refuses the problem as a whole.
  std::vector<Plan> plans(Operation operation, const ConvolutionShape& shape) const;

 private:
  std::shared_ptr<Library> library_;
};

}  // namespace detprobe::probes
