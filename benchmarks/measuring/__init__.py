"""Means of the benchmarks: programs that take turns, steps that are counted."""
