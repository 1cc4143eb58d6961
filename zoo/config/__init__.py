"""Finding, loading and checking configs."""

from .checking import check_config
from .errors import ConfigError
from .loading import find_config, list_configs, load_config
from .options import parse_options

__all__ = ["ConfigError", "check_config", "find_config", "list_configs", "load_config", "parse_options"]
