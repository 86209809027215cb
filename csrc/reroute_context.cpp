// The switch of `detprobe.deterministic()`, its counts, and the functions of `detprobe._C` that open and close it.
//
// A context that is open is a Session. The thread's own is a capsule among torch's thread-local Python objects, which
// ThreadLocalState copies together with the key, so that a thread of autograd counts into the context in which
// backward() was called. A session holds the one around it: an op counts in all of them.
#include "reroute.h"

#include <ATen/ThreadLocalPythonObjects.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <Python.h>
#include <c10/core/SafePyObject.h>
#include <c10/util/Exception.h>
#include <torch/csrc/PyInterpreter.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "calls.h"

namespace detprobe::reroute {

c10::DispatchKeySet switch_key;
std::atomic<bool> everywhere{false};
thread_local bool aside = false;

namespace {

// The only place that knows the name. Nothing of torch but a test of its own uses the key; a kernel that falls through
// makes it invisible to every op. Not the enumerator: a torch without it would then not even compile this.
constexpr const char* kSwitch = "TESTING_ONLY_GenericMode";
constexpr const char* kObject = "detprobe.deterministic";
constexpr const char* kCapsule = "detprobe.session";
constexpr size_t kSlots = 256;

std::vector<std::string>& names() {
  static std::vector<std::string> all;
  return all;
}

struct Session {
  std::shared_ptr<c10::SafePyObject> around;  // the capsule of the session in which this one was opened
  bool was_on = false;
  std::atomic<int64_t> replaced[kSlots]{};
  std::atomic<int64_t> uncovered[kSlots]{};
};

// Never freed once it is set: a thread may be counting into it at the moment of disable().
std::atomic<Session*> of_process{nullptr};

// No reference is taken and none is given back, so this needs no GIL.
Session* session_of(PyObject* capsule) { return static_cast<Session*>(PyCapsule_GetPointer(capsule, kCapsule)); }
Session* session_of(const std::shared_ptr<c10::SafePyObject>& held) {
  return held ? session_of(held->ptr(&held->pyinterpreter())) : nullptr;
}

std::shared_ptr<c10::SafePyObject> current() {
  using at::impl::ThreadLocalPythonObjects;
  return ThreadLocalPythonObjects::contains(kObject) ? ThreadLocalPythonObjects::get(kObject) : nullptr;
}

void count(std::atomic<int64_t> (Session::*counts)[kSlots], int slot) {
  const auto add = [&](Session* s) { (s->*counts)[slot].fetch_add(1, std::memory_order_relaxed); };
  const std::shared_ptr<c10::SafePyObject> held = current();
  for (Session* s = session_of(held); s != nullptr; s = session_of(s->around)) add(s);
  if (Session* s = of_process.load(std::memory_order_acquire)) add(s);
}

// Sets switch_key once, with a fallback that makes it invisible. False where this torch does not have the key.
bool install() {
  static const bool there = [] {
    try {
      const c10::DispatchKey key = c10::parseDispatchKey(kSwitch);
      static torch::Library fallback(torch::Library::IMPL, "_", key, __FILE__, __LINE__);
      fallback.fallback(torch::CppFunction::makeFallthrough());
      switch_key = c10::DispatchKeySet(key);
      return true;
    } catch (const c10::Error&) {
      return false;
    }
  }();
  return there;
}

// The public way to set a key for the thread takes the key, not the set.
void include(bool on) { c10::impl::tls_set_dispatch_key_included(switch_key.highestPriorityTypeId(), on); }

void destroy(PyObject* capsule) { delete session_of(capsule); }

PyObject* missing() {
  PyErr_Format(PyExc_RuntimeError,
               "detprobe.deterministic() switches by the dispatch key %s, and this torch has none of that name: use "
               "detprobe.ops in the model, or another version of torch",
               kSwitch);
  return nullptr;
}

PyObject* counts_of(const std::atomic<int64_t> (&counts)[kSlots]) {
  PyObject* dict = PyDict_New();
  for (size_t i = 0; dict != nullptr && i < names().size(); ++i) {
    const int64_t n = counts[i].load(std::memory_order_relaxed);
    if (n == 0) continue;
    PyObject* value = PyLong_FromLongLong(n);
    if (value == nullptr || PyDict_SetItemString(dict, names()[i].c_str(), value) != 0) Py_CLEAR(dict);
    Py_XDECREF(value);
  }
  return dict;
}

}  // namespace

int slot_of(const char* op) {
  std::string name = op;
  if (name == "aten::_index_put_impl_") name = "aten::index_put";
  if (name.back() == '_') name.pop_back();
  for (size_t i = 0; i < names().size(); ++i) {
    if (names()[i] == name) return static_cast<int>(i);
  }
  TORCH_INTERNAL_ASSERT(names().size() < kSlots, "more ops than there are counters");
  names().push_back(name);
  return static_cast<int>(names().size()) - 1;
}

void count_replaced(int slot) { count(&Session::replaced, slot); }
void count_uncovered(int slot) { count(&Session::uncovered, slot); }

bool has_kernels(const Tensor& t) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("detprobe::index_add", "");
  static const bool on_cuda = op.hasKernelForDispatchKey(c10::DispatchKey::CUDA);
  return t.defined() && t.layout() == at::kStrided && !t.is_quantized() && !t.is_nested() && !t._is_zerotensor() &&
         (t.is_cpu() || (on_cuda && t.is_cuda()));
}

}  // namespace detprobe::reroute

namespace detprobe {

using namespace reroute;

PyObject* reroute_key(PyObject*, PyObject*) {
  if (!install()) return missing();
  return PyUnicode_FromString(kSwitch);
}

PyObject* reroute_open(PyObject*, PyObject*) {
  if (!install()) return missing();
  auto session = std::make_unique<Session>();
  session->around = current();
  session->was_on = c10::impl::tls_local_dispatch_key_set().included_.has_any(switch_key);
  PyObject* capsule = PyCapsule_New(session.get(), kCapsule, destroy);
  if (capsule == nullptr) return nullptr;
  session.release();
  Py_INCREF(capsule);
  at::impl::ThreadLocalPythonObjects::set(kObject, std::make_shared<c10::SafePyObject>(capsule, getPyInterpreter()));
  include(true);
  return capsule;
}

PyObject* reroute_close(PyObject*, PyObject* capsule) {
  const Session* session = session_of(capsule);
  if (session == nullptr) return nullptr;
  include(session->was_on);
  // Null where there was none: before 2.13, torch cannot take an object away.
  at::impl::ThreadLocalPythonObjects::set(kObject, session->around);
  Py_RETURN_NONE;
}

PyObject* reroute_enable(PyObject*, PyObject*) {
  if (!install()) return missing();
  auto session = std::make_unique<Session>();
  PyObject* capsule = PyCapsule_New(session.get(), kCapsule, nullptr);
  if (capsule == nullptr) return nullptr;
  of_process.store(session.release(), std::memory_order_release);
  everywhere.store(true);
  include(true);
  return capsule;
}

PyObject* reroute_disable(PyObject*, PyObject*) {
  const bool was_on = everywhere.exchange(false);
  of_process.store(nullptr, std::memory_order_release);
  if (was_on) include(current() != nullptr);
  return PyBool_FromLong(was_on);
}

PyObject* reroute_active(PyObject*, PyObject*) { return PyBool_FromLong(active()); }

PyObject* reroute_counts(PyObject*, PyObject* capsule) {
  const Session* session = session_of(capsule);
  if (session == nullptr) return nullptr;
  PyObject* replaced = counts_of(session->replaced);
  PyObject* uncovered = counts_of(session->uncovered);
  if (replaced == nullptr || uncovered == nullptr) {
    Py_XDECREF(replaced);
    Py_XDECREF(uncovered);
    return nullptr;
  }
  return Py_BuildValue("(NN)", replaced, uncovered);
}

}  // namespace detprobe
