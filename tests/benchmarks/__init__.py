"""Benchmarks: `python -m tests.benchmarks` prints one table of ratios; docs/performance.md explains it."""

VARIABLE = "BENCHMARK_QUEUE"
"""In a worker process's environment: the options of the queue it works for, as JSON."""

SAMPLES = "BENCHMARK_SAMPLES"
"""In a profiled worker's environment: the file that its samples are written to."""
