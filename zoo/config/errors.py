"""The error for wrong configs."""

from __future__ import annotations


class ConfigError(ValueError):
    """A config that cannot be run. The message names each wrong key in full, with the nearest match."""
