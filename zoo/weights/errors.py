"""The error of checkpoint files, apart from the modules that read and write them."""

from __future__ import annotations


class CheckpointError(OSError, ValueError):
    """A checkpoint could not be read or written: it is not one, is damaged, or contains objects that are not loaded."""
