"""Published weights: fetched, read without running anything, recognised in every form, loaded whole or not at all."""

from .safe_load import CheckpointError, read_checkpoint, safe_load

__all__ = ["CheckpointError", "read_checkpoint", "safe_load"]
