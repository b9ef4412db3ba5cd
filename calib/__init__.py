"""Sampling strategies for calibration sets, one module each; found by entry points, never imported by the core."""
