"""Quantization as fqbench understands it: schemes, calibration sets, and what a graph computes in integers."""
