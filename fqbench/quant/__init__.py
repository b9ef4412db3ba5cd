"""Quantization: calibration, ranges, weights and quantization plans."""
