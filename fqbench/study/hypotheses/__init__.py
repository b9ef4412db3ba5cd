"""The hypotheses of the literature as written tests on a study's table."""
