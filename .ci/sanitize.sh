#!/usr/bin/env bash
# Rung 4: the emulator and the CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer.
# Builds in a copy of the tree, with the torch of VENV. Then it plants a fault in the copy, which has to be caught:
# a rung that cannot fail says nothing. Wants gcc, its libasan and libubsan, and the `test` extra.
set -euo pipefail
cd "$(dirname "$0")/.."
venv="$(realpath -s "${VENV:-.venv}")"
export PATH="$venv/bin:$PATH" CC="${CC:-gcc}" CXX="${CXX:-g++}"
# Python is not instrumented, so the runtimes come in first. libstdc++ with them: ASan looks for __cxa_throw at start.
preload=""
for library in libasan.so libubsan.so libstdc++.so; do
  file="$("$CC" -print-file-name="$library" || true)"
  # gcc answers with the bare name when it has no such file
  [[ "$file" == /* ]] || { echo "$CC has no $library"; exit 3; }
  preload+="$file:"
done

tree="$(mktemp -d)"
trap 'rm -rf "$tree"' EXIT
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$tree"
cd "$tree"

# The build takes CFLAGS before setup.py's own flags. Without vptr, whose checks want type information of torch's own.
export CFLAGS="-g -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer"
export LDFLAGS="-fsanitize=address,undefined" DETPROBE_CUDA=0
# To stay in time one instruction set, the baseline: the others are the same source in other widths, and where they have
# instructions of their own, for the last elements of a row, the sanitizer does not see what those touch.
export DETPROBE_ISA=baseline DETPROBE_CXXFLAGS="-O1 -g1"
build() { python setup.py -q build_ext --inplace > build.log 2>&1 || { cat build.log; return 1; }; }

# Leaks are not looked for: Python and torch keep what they have until the end. Memory that cannot be had is an error to
# torch, and no reason to abort.
under() {
  LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1 \
    UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc "$@"
}
tests() { under python -m pytest -q -p no:cacheprovider "$@"; }

echo "sanitize: build"
build
echo "sanitize: tests"
tests tests/test_emulator.py tests/test_bits.py tests/test_probe_atomic_add.py tests/test_probe_conv_engines.py
# Of the reductions one type of floats on the CPU and on the emulator, where instrumented fibers are slow.
tests tests/test_reductions_bits.py -k "float32 or layout"
tests tests/test_emulated_reductions.py -k "float32 and not 1030 and not 1024"
tests tests/test_scatter_bits.py -k "every_pattern and float32"

# Faults of three kinds, one in each place that must be watched: CPU code, a fiber's memory, a fiber's arithmetic.
echo "sanitize: planted faults"
cat > csrc/cpu/planted.cpp <<'CPP'
extern "C" __attribute__((visibility("default"))) void planted_read(long n) {
  volatile char* memory = new char[n];
  memory[n - 1] = memory[n];
}
CPP
cat > csrc/emulator/planted.cpp <<'CPP'
#include "../cuda/device.h"
static void write(int* out, int n) { out[threadIdx.x + 1] = n; }
static void overflow(int* out, int n) { out[threadIdx.x] = n + 0x7FFFFF00; }
static void start(void (*kernel)(int*, int)) {
  std::vector<int> memory(64);
  detprobe::launch(dim3(1), dim3(64), nullptr, kernel, memory.data(), 512);
}
extern "C" __attribute__((visibility("default"))) void planted_write() { start(write); }
extern "C" __attribute__((visibility("default"))) void planted_overflow() { start(overflow); }
CPP
build
planted() { # module, call, what the sanitizer has to say
  if under python -c "import torch, ctypes, detprobe.$1 as m; ctypes.CDLL(m.__file__).$2" > planted.log 2>&1; then
    echo "sanitize: the planted fault $2 passed unnoticed"
    exit 1
  fi
  grep -q "$3" planted.log || { cat planted.log; exit 1; }
  echo "  $2: $3"
}
planted _C 'planted_read(100)' 'heap-buffer-overflow'
planted _emulator 'planted_write()' 'heap-buffer-overflow'
planted _emulator 'planted_overflow()' 'signed integer overflow'
