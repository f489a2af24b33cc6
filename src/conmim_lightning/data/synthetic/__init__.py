"""Images generated for demos, tests and benchmarks."""
