// From ops and types at run time to templates. Included once per instruction set.

template <class A>
void run_typed(const Job& job) {
  switch (job.op) {
#define DETPROBE_OP_ALL(name) \
  case Op::name: return Driver<name, A>(job).run();
#define DETPROBE_OP(name)                                                         \
  case Op::name:                                                                  \
    if constexpr (std::is_floating_point_v<A>) return Driver<name, A>(job).run(); \
    break;
#include "../../arith/op_names.h"
#undef DETPROBE_OP
  }
}

const char* run(const Job& job) {
  const FloatMode mode;
  switch (job.type) {
    case Type::f16:
    case Type::bf16:
    case Type::f32: run_typed<float>(job); break;
    case Type::f64: run_typed<double>(job); break;
    default: run_typed<uint64_t>(job); break;
  }
  return nullptr;
}
