"""Benchmarks of decoding, sources and loaders."""
