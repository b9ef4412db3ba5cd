"""Conformance suites that every plug-in must pass, for use in other packages' tests."""
