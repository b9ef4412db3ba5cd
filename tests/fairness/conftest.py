"""Property tests here draw the same examples every time, and have no deadline on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fairness", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("fairness")
