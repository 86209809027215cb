"""Speed, error and memory of `detprobe.ops` beside torch's functions: what `detprobe bench` runs, and nothing else."""

__all__: list[str] = []
