"""Latency: the measuring protocol, its report, and when not to trust it."""
