"""Search: which layer harms which group, and the fastest or smallest artifact that keeps every group within limits."""
