// torch's scalar types, as the comparison describes them.
#pragma once

#include <ATen/core/Tensor.h>

#include "arith/ulp.h"

namespace detprobe {

inline Format format_of(const at::Tensor& t) {
  using at::ScalarType;
  const auto floating = [](Kind kind, int bytes, int parts, int exponent, int mantissa, int bias) {
    return Format{kind, bytes, parts, exponent, mantissa, bias};
  };
  const auto plain = [](Kind kind, int bytes) { return Format{kind, bytes, 1, 0, 0, 0}; };
  switch (t.scalar_type()) {
    case ScalarType::Half: return floating(Kind::kFloat, 2, 1, 5, 10, 15);
    case ScalarType::BFloat16: return floating(Kind::kFloat, 2, 1, 8, 7, 127);
    case ScalarType::Float: return floating(Kind::kFloat, 4, 1, 8, 23, 127);
    case ScalarType::Double: return floating(Kind::kFloat, 8, 1, 11, 52, 1023);
    case ScalarType::ComplexHalf: return floating(Kind::kFloat, 2, 2, 5, 10, 15);
    case ScalarType::ComplexFloat: return floating(Kind::kFloat, 4, 2, 8, 23, 127);
    case ScalarType::ComplexDouble: return floating(Kind::kFloat, 8, 2, 11, 52, 1023);
    case ScalarType::Float8_e5m2: return floating(Kind::kFloat, 1, 1, 5, 2, 15);
    case ScalarType::Float8_e4m3fn: return floating(Kind::kFloatFn, 1, 1, 4, 3, 7);
    case ScalarType::Float8_e5m2fnuz: return floating(Kind::kFloatFnuz, 1, 1, 5, 2, 16);
    case ScalarType::Float8_e4m3fnuz: return floating(Kind::kFloatFnuz, 1, 1, 4, 3, 8);
    case ScalarType::Float8_e8m0fnu: return floating(Kind::kExponent, 1, 1, 8, 0, 127);
    case ScalarType::Bool: return plain(Kind::kUnsigned, 1);
    case ScalarType::Byte: return plain(Kind::kUnsigned, 1);
    case ScalarType::UInt16: return plain(Kind::kUnsigned, 2);
    case ScalarType::UInt32: return plain(Kind::kUnsigned, 4);
    case ScalarType::UInt64: return plain(Kind::kUnsigned, 8);
    case ScalarType::Char: return plain(Kind::kSigned, 1);
    case ScalarType::Short: return plain(Kind::kSigned, 2);
    case ScalarType::Int: return plain(Kind::kSigned, 4);
    case ScalarType::Long: return plain(Kind::kSigned, 8);
    default: {
      const int bytes = static_cast<int>(t.element_size());
      return bytes == 16 ? Format{Kind::kOpaque, 8, 2, 0, 0, 0} : Format{Kind::kOpaque, bytes, 1, 0, 0, 0};
    }
  }
}

}  // namespace detprobe
