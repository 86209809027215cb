// One call of a kernel, as plain data: what every instruction set, CUDA and the emulator are asked for in the same
// words.
#pragma once

#include <cstdint>

#include "fp.h"
#include "geometry.h"

namespace detprobe {

// The types of elements. The first four are floats.
enum class Type : int32_t { f16, bf16, f32, f64, i64, i32, i16, i8, u8 };

// The ops of arith/ops.h, in its order.
enum class Op : int32_t {
#define DETPROBE_OP(name) name,
#include "op_names.h"
#undef DETPROBE_OP
};

constexpr int kVectors = 3;  // vectors along a row: element i of every row meets e[k][i]
constexpr int kParams = 8;   // numbers that belong to a row

// Rows of one tensor, or of two of one shape. Where `out` is as large as x, it has the strides of x.
// A vector or number whose pointer is null is the constant beside it. All of them are in acc.
struct Job {
  Op op{};
  Type type{};  // of x, y and out; integers give an int64 for each row
  Geometry g;   // strides a: of x and a large out; b: of y
  const void* x = nullptr;
  const void* y = nullptr;
  const void* e[kVectors] = {};  // [n]
  double e_constant[kVectors] = {};
  const void* p[kParams] = {};  // [rows]
  double p_constant[kParams] = {};
  void* p_out[kParams] = {};  // [rows], for numbers that the op computes; null where nobody wants them
  void* out = nullptr;        // [rows] for a reduction, else as x
  void* workspace = nullptr;  // of workspace_bytes(job), on the device
  void* stream = nullptr;     // of CUDA
};

struct ScanJob {
  Type type{};
  Geometry g;            // strides a: of x; b: of out
  bool reverse = false;  // from the last element to the first
  const void* x = nullptr;
  void* out = nullptr;
  void* workspace = nullptr;
  void* stream = nullptr;
};

struct ExactJob {
  Type type{};
  Geometry g;
  const void* x = nullptr;
  void* out = nullptr;  // [rows], in the type of x
  void* workspace = nullptr;
  void* stream = nullptr;
};

struct SegmentJob;  // of segments.h
struct OwnerJob;

// What a device offers. Each returns null, or the text of an error.
struct Kernels {
  const char* name;
  const char* (*run)(const Job&);
  const char* (*scan)(const ScanJob&);
  const char* (*exact)(const ExactJob&);
  const char* (*fold)(const SegmentJob&);
  const char* (*own)(const OwnerJob&);  // null where there is none
  // Bytes that the caller has to bring.
  int64_t (*run_workspace)(const Job&);
  int64_t (*scan_workspace)(const ScanJob&);
  int64_t (*exact_workspace)(const ExactJob&);
  int64_t (*fold_workspace)(const SegmentJob&);
};

}  // namespace detprobe
