"""Exact nearest neighbours over embeddings, in blocks, on CPU or GPU. No Ray in here."""

from engine.neighbours.search import Nearest, merge, nearest

__all__ = ["Nearest", "merge", "nearest"]
