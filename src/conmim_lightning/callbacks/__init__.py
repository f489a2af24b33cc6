"""Plots, files, gauges: what accompanies a run without changing it."""
