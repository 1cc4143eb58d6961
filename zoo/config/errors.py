"""What is raised for a wrong config."""

from __future__ import annotations


class ConfigError(ValueError):
    """A config that cannot be run; the message names each wrong key in full and the nearest right one."""
