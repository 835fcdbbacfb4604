"""Benchmarks: each prints a ratio against a named peer or limit, and its floor."""
