"""The exceptions that cross a room's border, and what each one stops.

A *sample* that cannot be read or described is never an exception: it becomes an error row
(`SampleError` is caught by the stage that meets it). What concerns the whole run is raised.
"""

from __future__ import annotations


class ConnoteError(Exception):
    """A message for the user: what is wrong, where, and what to do about it."""


class RecipeError(ConnoteError):
    """The run is refused as it was asked for: exit status 2, nothing has been computed."""


class StorageError(ConnoteError):
    """The run directory or a source cannot be read or written: the run stops at once."""


class RunHeld(ConnoteError):
    """Another command works on this directory: this one leaves the work to it, exit status 4."""


class EngineDied(ConnoteError):
    """A generation engine is gone: its actor leaves its process, and the part is retried."""


class SampleError(ConnoteError):
    """One sample cannot be used; the text is the reason kept in its row's `error` column."""
