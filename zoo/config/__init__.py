"""Configs: how one is found and loaded, and what is checked before anything starts."""

from .checking import check_config
from .errors import ConfigError
from .loading import find_config, list_configs, load_config, parse_options

__all__ = ["ConfigError", "check_config", "find_config", "list_configs", "load_config", "parse_options"]
