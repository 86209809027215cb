#!/usr/bin/env bash
# Rung 1: lint, format, types, sizes. Everything is checked before it fails, so that one run tells all.
# Wants the `dev` and `test` extras in VENV.
set -euo pipefail
cd "$(dirname "$0")/.."
bin="$(realpath -s "${VENV:-.venv}")/bin"
failed=()
check() { # name, command...
  echo "lint: $1"
  "${@:2}" || failed+=("$1")
}

# Untracked files count as well, so that a mistake shows before it is committed.
mapfile -t -d "" native < <(
  git ls-files -z --cached --others --exclude-standard "*.h" "*.cpp" "*.cu" "*.cuh"
)

check "ruff check" "$bin/ruff" check -q .
check "ruff format" "$bin/ruff" format -q --check .
check "mypy --strict" "$bin/python" -m mypy --strict detprobe
check "clang-format" "$bin/clang-format" --dry-run -Werror "${native[@]}"
check "sizes" "$bin/python" .ci/sizes.py

if ((${#failed[@]})); then
  printf 'lint failed: %s\n' "${failed[@]}"
  exit 1
fi
