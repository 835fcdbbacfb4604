"""Retrieval between images and texts: exact ranks by blocks, and what they amount to."""
