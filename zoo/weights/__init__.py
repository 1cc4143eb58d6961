"""Published weights: downloaded, read without running code, and loaded completely or not at all."""

from .cache import checkpoints_dir
from .digests import save_safetensors, save_with_digest, verify_digest
from .download import ChecksumError, DownloadError
from .errors import CheckpointError
from .load import LoadReport, WeightsMismatchError, load_weights
from .reading import read_checkpoint, safe_load
from .sources import fetch
from .state_dicts import extract_state_dict, find_state_dict
from .tasks import weights_target

__all__ = [
    "CheckpointError",
    "ChecksumError",
    "DownloadError",
    "LoadReport",
    "WeightsMismatchError",
    "checkpoints_dir",
    "extract_state_dict",
    "fetch",
    "find_state_dict",
    "load_weights",
    "read_checkpoint",
    "safe_load",
    "save_safetensors",
    "save_with_digest",
    "verify_digest",
    "weights_target",
]
