"""Connote: mine what images mean, on Ray."""
