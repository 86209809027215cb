"""Tensors from raw bit patterns, and back: numpy makes and reads them, so that no torch kernel can change a NaN."""

import ctypes

import numpy as np
import torch

from detprobe.reference import Format, Kind

FORMATS = {
    torch.float16: Format(Kind.FLOAT, 2, 1, 5, 10, 15),
    torch.bfloat16: Format(Kind.FLOAT, 2, 1, 8, 7, 127),
    torch.float32: Format(Kind.FLOAT, 4, 1, 8, 23, 127),
    torch.float64: Format(Kind.FLOAT, 8, 1, 11, 52, 1023),
    torch.complex32: Format(Kind.FLOAT, 2, 2, 5, 10, 15),
    torch.complex64: Format(Kind.FLOAT, 4, 2, 8, 23, 127),
    torch.complex128: Format(Kind.FLOAT, 8, 2, 11, 52, 1023),
    torch.float8_e5m2: Format(Kind.FLOAT, 1, 1, 5, 2, 15),
    torch.float8_e4m3fn: Format(Kind.FLOAT_FN, 1, 1, 4, 3, 7),
    torch.float8_e5m2fnuz: Format(Kind.FLOAT_FNUZ, 1, 1, 5, 2, 16),
    torch.float8_e4m3fnuz: Format(Kind.FLOAT_FNUZ, 1, 1, 4, 3, 8),
    torch.float8_e8m0fnu: Format(Kind.EXPONENT, 1, 1, 8, 0, 127),
    torch.bool: Format(Kind.UNSIGNED, 1),
    torch.uint8: Format(Kind.UNSIGNED, 1),
    torch.uint16: Format(Kind.UNSIGNED, 2),
    torch.uint32: Format(Kind.UNSIGNED, 4),
    torch.uint64: Format(Kind.UNSIGNED, 8),
    torch.int8: Format(Kind.SIGNED, 1),
    torch.int16: Format(Kind.SIGNED, 2),
    torch.int32: Format(Kind.SIGNED, 4),
    torch.int64: Format(Kind.SIGNED, 8),
    torch.bits8: Format(Kind.OPAQUE, 1),
    torch.bits16: Format(Kind.OPAQUE, 2),
    torch.float4_e2m1fn_x2: Format(Kind.OPAQUE, 1),
}
FLOAT8 = [dtype for dtype, f in FORMATS.items() if f.bytes == 1 and f.exponent_bits]


def array(words, format):
    """[n, parts] unsigned integers as numpy holds them."""
    return np.array(words, dtype=f"u{format.bytes}").reshape(-1, format.parts)


def place(words, dtype, shape, *, order=None, steps=None, offset=0, expanded=(), hole=0xA5):
    """A tensor of these words whose dimensions lie in memory as told, between bytes that nobody may read."""
    format, dims = FORMATS[dtype], len(shape)
    size = format.bytes * format.parts
    strides, stride = [0] * dims, 1
    for d in reversed(range(dims) if order is None else order):
        step = 1 if steps is None else steps[d]
        strides[d] = 0 if d in expanded else stride * step
        stride *= 1 if d in expanded else max(1, shape[d]) * step
    memory = np.full((offset + stride) * size, hole, dtype=np.uint8)
    inside = np.ndarray(shape, f"V{size}", memory, offset * size, [size * s for s in strides])
    inside[...] = array(words, format).reshape(-1).view(f"V{size}").reshape(shape)
    return torch.from_numpy(memory).view(dtype).as_strided(shape, strides, offset)


def logical_bytes(tensor):
    """The bytes in row-major order, gathered by numpy from the tensor's storage."""
    storage, size = tensor.untyped_storage(), tensor.element_size()
    memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr()) if storage.nbytes() else b""
    strides = [size * s for s in tensor.stride()]
    return np.ndarray(tuple(tensor.shape), f"V{size}", memory, tensor.storage_offset() * size, strides).tobytes()


def words_of(tensor):
    format = FORMATS[tensor.dtype]
    return np.frombuffer(logical_bytes(tensor), dtype=f"u{format.bytes}")


def corners(dtype):
    """Bit patterns at which a format changes its meaning."""
    format = FORMATS[dtype]
    if dtype is torch.bool:
        return [0, 1]
    top, sign = (1 << format.bytes * 8) - 1, 1 << (format.bytes * 8 - 1)
    infinity = ((1 << format.exponent_bits) - 1) << format.mantissa_bits
    near = [0, 1, 2, (1 << format.mantissa_bits) - 1, 1 << format.mantissa_bits, infinity - 1, infinity, infinity + 1]
    near += [infinity + (1 << max(0, format.mantissa_bits - 1)), sign - 1, sign // 2]
    return sorted({value & top for word in near for value in (word, word | sign, ~word)})
