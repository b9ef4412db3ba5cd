"""Latency: the measuring protocol, its results, and when not to trust them."""
