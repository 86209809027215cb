// What `detprobe.deterministic()` is below Python: wrappers around aten ops, a switch, and counts.
//
// A wrapper stands at the dispatch key BackendSelect, where aten has none for these ops: below autograd, functorch and
// every dispatch mode, above the kernels of CPU and CUDA. Outside of the context it reads one word that belongs to the
// thread and goes on to torch's kernel. The switch is a dispatch key that nobody else uses, included for the thread:
// torch's ThreadLocalState carries it to the threads of autograd, and torch.compile guards on it.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <atomic>
#include <optional>
#include <utility>

namespace detprobe::reroute {

using at::Tensor;

// The key that switches, alone in its set; empty where this torch has no key of that name (reroute_context.cpp).
extern c10::DispatchKeySet switch_key;
// Between enable() and disable() every thread reroutes.
extern std::atomic<bool> everywhere;

// True in an op of ours: what that calls is torch's own. Not by excluding the key, as torch does so itself: what a
// dispatch mode's handler calls has every key excluded that comes before the mode.
extern thread_local bool aside;

struct Aside {
  const bool before = std::exchange(aside, true);
  ~Aside() { aside = before; }
};

// Whether this thread reroutes now.
inline bool active() {
  return (c10::impl::tls_local_dispatch_key_set().included_.has_any(switch_key) ||
          everywhere.load(std::memory_order_relaxed)) &&
         !aside;
}

// The keys of torch's own kernel.
inline c10::DispatchKeySet below(c10::DispatchKeySet keys) {
  return keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, c10::DispatchKey::BackendSelect);
}

// A number for an aten op; all its overloads have the same: "aten::index_add_" is counted as "aten::index_add".
int slot_of(const char* op);
// In every context that is open here: an op was replaced, or ran as it is although it need not repeat.
void count_replaced(int slot);
void count_uncovered(int slot);

enum class Verdict {
  ours,       // a kernel of ours takes it
  torch,      // torch's kernel repeats, or the arguments are wrong and torch says so: left alone
  uncovered,  // torch's kernel need not repeat, and there is none of ours
};

// What an Answer is that never says `ours`.
struct Watched {};

// A wrapper around one overload. `Answer` has judge(args...) -> Verdict and, unless it is Watched, run(args...) -> the
// op's result.
template <class Op, class Answer, class Schema = typename Op::schema>
struct Wrapper;

template <class Op, class Answer, class Result, class... Args>
struct Wrapper<Op, Answer, Result(Args...)> {
  static inline const int slot = slot_of(Op::name);

  static Result call(c10::DispatchKeySet keys, Args... args) {
    if (C10_UNLIKELY(active())) {
      const Verdict verdict = Answer::judge(args...);
      if constexpr (!std::is_base_of_v<Watched, Answer>) {
        if (verdict == Verdict::ours) {
          count_replaced(slot);
          const Aside aside;
          return Answer::run(args...);
        }
      }
      if (verdict == Verdict::uncovered) count_uncovered(slot);
    }
    return Op::redispatch(below(keys), std::forward<Args>(args)...);
  }
};

template <class Op, class Answer>
void wrap(torch::Library& m) {
  const std::string overload = Op::overload_name;
  const std::string name = overload.empty() ? std::string(Op::name) : std::string(Op::name) + "." + overload;
  m.impl(name.c_str(), TORCH_FN((Wrapper<Op, Answer>::call)));
}

// Strided memory on a device for which this build has the kernels of the family.
bool has_kernels(const Tensor& t);
// Any device but one without data (meta): there a kernel of torch runs.
inline bool has_data(const Tensor& t) { return t.defined() && !t.is_meta(); }

}  // namespace detprobe::reroute
