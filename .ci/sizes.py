"""No text file but Markdown has a line of more than 120 columns, no source file more than 400 lines.

Measured results under benchmarks/results are data and may be as wide as they are.
"""

import subprocess
import sys
from pathlib import Path

COLUMNS, LINES = 120, 400
SOURCES = {".py", ".cpp", ".h", ".cu", ".cuh", ".sh", ".html", ".toml", ""}

listed = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, capture_output=True, text=True
)
bad = []
for path in sorted({Path(name) for name in listed.stdout.split("\0") if name}):
    if not path.is_file() or path.parts[:2] == ("benchmarks", "results"):
        continue
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        continue  # a picture or another binary
    if path.suffix != ".md":
        bad += [f"{path}:{i}: {len(line)} columns" for i, line in enumerate(lines, 1) if len(line) > COLUMNS]
    if path.suffix in SOURCES and len(lines) > LINES:
        bad.append(f"{path}: {len(lines)} lines")
print("\n".join(bad), end="\n" if bad else "")
sys.exit(bool(bad))
