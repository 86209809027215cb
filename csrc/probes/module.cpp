// The Python module `detprobe._probes`: what shows a device's own order, and is no op on tensors.
//
// Tensors cross as addresses, sizes and strides, so that this module knows no torch and serves every version.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "atomic_add.h"
#include "cudnn_conv.h"

namespace py = pybind11;

namespace detprobe::probes {
namespace {

#ifdef DETPROBE_PROBES_CUDA
constexpr bool kCuda = true;
#else
constexpr bool kCuda = false;
#endif

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void threads(int32_t type, uintptr_t x, int64_t n, int64_t bins, int threads, int64_t chunk, int64_t runs,
             uintptr_t sums, uintptr_t tickets, uintptr_t seconds) {
  if (n < 1 || bins < 1 || threads < 1 || chunk < 1 || runs < 1) {
    throw std::invalid_argument("atomic_add_threads: expected n, bins, threads, chunk and runs of at least 1");
  }
  const py::gil_scoped_release release;
  add_by_threads(static_cast<Type>(type), at<void>(x), n, bins, threads, chunk, runs, at<void>(sums),
                 at<uint32_t>(tickets), at<double>(seconds));
}

#ifdef DETPROBE_PROBES_CUDA
void cuda(int32_t type, uintptr_t x, int64_t n, int64_t bins, uintptr_t sums, uintptr_t tickets, uintptr_t next,
          uintptr_t stream) {
  if (n < 1 || bins < 1) throw std::invalid_argument("atomic_add_cuda: expected n and bins of at least 1");
  const char* error = launch_atomic_add(static_cast<Type>(type), at<void>(x), n, bins, at<void>(sums),
                                        at<uint32_t>(tickets), at<uint32_t>(next), at<void>(stream));
  if (error != nullptr) throw std::runtime_error(std::string("atomic_add: CUDA says ") + error);
}
#endif

std::vector<Plan> plans(const Session& session, int operation, const std::vector<Sizes>& sizes,
                        const std::vector<Sizes>& strides, const Sizes& stride, const Sizes& padding,
                        const Sizes& dilation, int type, int compute) {
  if (operation < 0 || operation > 2 || sizes.size() != 3 || strides.size() != 3) {
    throw std::invalid_argument("plans: expected operation 0, 1 or 2, and sizes and strides of x, w and y");
  }
  const ConvolutionShape shape{
      {sizes[0], strides[0]}, {sizes[1], strides[1]}, {sizes[2], strides[2]}, stride, padding, dilation, type, compute};
  const py::gil_scoped_release release;
  return session.plans(static_cast<Operation>(operation), shape);
}

}  // namespace
}  // namespace detprobe::probes

PYBIND11_MODULE(_probes, m) {
  using namespace detprobe::probes;
  m.doc() = "detprobe's probes: sums by atomic additions, and cuDNN's convolutions one engine at a time.";
  m.attr("cuda") = kCuda;
  m.attr("cudnn_api") = "9.19";  // of csrc/probes/cudnn_api.h
  m.def("atomic_add_threads", &threads, py::arg("type"), py::arg("x"), py::arg("n"), py::arg("bins"),
        py::arg("threads"), py::arg("chunk"), py::arg("runs"), py::arg("sums"), py::arg("tickets"), py::arg("seconds"));
#ifdef DETPROBE_PROBES_CUDA
  m.def("atomic_add_cuda", &cuda, py::arg("type"), py::arg("x"), py::arg("n"), py::arg("bins"), py::arg("sums"),
        py::arg("tickets"), py::arg("next"), py::arg("stream"));
#endif

  py::register_exception<CudnnError>(m, "CudnnError", PyExc_RuntimeError);
  py::class_<Plan>(m, "Plan")
      .def_readonly("engine", &Plan::engine)
      .def_readonly("source", &Plan::source)
      .def_readonly("knobs", &Plan::knobs)
      .def_readonly("notes", &Plan::notes)
      .def_readonly("nondeterministic", &Plan::nondeterministic)
      .def_readonly("reduced", &Plan::reduced)
      .def_readonly("workspace", &Plan::workspace)
      .def_readonly("refused", &Plan::refused)
      .def("run", &Plan::run, py::arg("x"), py::arg("w"), py::arg("y"), py::arg("workspace"),
           py::call_guard<py::gil_scoped_release>());
  py::class_<Session>(m, "Session")
      .def(py::init<const std::string&, uintptr_t>(), py::arg("file"), py::arg("stream"))
      .def_property_readonly("version", &Session::version)
      .def("plans", &plans, py::arg("operation"), py::arg("sizes"), py::arg("strides"), py::arg("stride"),
           py::arg("padding"), py::arg("dilation"), py::arg("type"), py::arg("compute"));
}
