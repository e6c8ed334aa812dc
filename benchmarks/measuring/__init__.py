"""Means of the benchmarks: programs that take turns, steps that are counted, an environment and an address for them."""
