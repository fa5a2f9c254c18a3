"""Benchmarks against real peers, in one run, as ratios. `make bench` runs them all."""
