"""Loads published weights into a model: completely or not at all, with a report of what was converted."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from .carried import carried_preprocessing
from .load_plan import LoadPlan, WeightsMismatchError, adapt_input_channels
from .load_report import LoadReport
from .reading import CheckpointError, read_checkpoint
from .sources import fetch, split_source
from .state_dicts import find_state_dict

__all__ = ["LoadReport", "WeightsMismatchError", "adapt_input_channels", "load_weights"]

_logger = logging.getLogger(__name__)


def load_weights(
    model: nn.Module,
    source: str | os.PathLike[str] | Mapping[str, Any],
    strict: bool = True,
    *,
    use_ema: bool | None = None,
    key: str | None = None,
    filename: str | None = None,
    sha256: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    fresh_head: bool = False,
    adopt_classes: bool = False,
) -> LoadReport:
    """Loads weights in any published form into a model.

    A head with another number of classes keeps its values, and a first layer with another number of input channels is
    adapted (summed to one channel, or repeated and rescaled). Both are logged and listed in the report. If the
    checkpoint carries its preprocessing and class names, as those of attnzoo do, the model's `pretrained_cfg` is
    updated with them.

    Args:
        model: A backbone, a `FeatureMaps`, a detector or segmentor (whose checkpoints contain backbone, neck and
            heads), or any of them wrapped in DistributedDataParallel or torch.compile.
        source: Path of a file or folder, an http or https URL, `hf-hub:owner/name[@revision]`, `local-dir:folder`, or
            the content of a checkpoint file: a state dict, or a dict that contains one.
        strict: Whether the names and shapes must match exactly. Otherwise every tensor that fits is loaded, and the
            others are logged.
        use_ema: Whether to load averaged weights, see `find_state_dict`.
        key: Key of the checkpoint that the weights are under, for a format that is not recognized.
        filename: File to load from a repository or folder.
        sha256: Checksum of the file, see `fetch`.
        cache_dir: Cache folder, see `checkpoints_dir`.
        progress: Whether to show a progress bar for downloads.
        fresh_head: Keep the head's values even if its shape fits.
        adopt_classes: If the number of classes differs, resize the model's head instead of keeping its values.

    Returns:
        What was found, converted and left out.

    Raises:
        WeightsMismatchError: The weights do not fit. The model is unchanged.
        CheckpointError: The file is not a checkpoint, is damaged, or contains objects that are not safe to load.
        DownloadError: The download failed; the message explains how to put the file in place manually.
        FileNotFoundError: There is no such file.
    """
    path, search_folder = None, False
    if isinstance(source, Mapping):
        checkpoint, description = source, "a state dict in memory"
    elif isinstance(source, (str, os.PathLike)):
        path = fetch(source, cache_dir=cache_dir, filename=filename, sha256=sha256, progress=progress)
        checkpoint, description = read_checkpoint(path), repr(os.fspath(source))
        search_folder = split_source(os.fspath(source))[0] in ("path", "local-dir")
    else:
        raise ValueError(
            "source must be a path, a URL, 'hf-hub:owner/name', 'local-dir:folder' or a state dict, got "
            f"{type(source).__name__}."
        )
    model = _unwrap(model)
    is_complete_task = bool(getattr(model, "has_separate_heads", False))
    try:
        extracted = find_state_dict(checkpoint, use_ema, key=key, keep_all_parts=is_complete_task)
    except CheckpointError as error:
        raise CheckpointError(f"{description[0].upper()}{description[1:]}: {error}") from error
    plan = LoadPlan(model, extracted, description)
    plan.fit_first_layer()
    plan.fit_head(fresh_head, adopt_classes)
    preprocessing = carried_preprocessing(checkpoint, path, search_folder)
    report = plan.execute(strict)
    if preprocessing is not None:
        report = dataclasses.replace(report, preprocessing=preprocessing)
        keeps_head = fresh_head or report.head_classes is not None
        (dataclasses.replace(preprocessing, label_names=None) if keeps_head else preprocessing).write_to(model)
    for sentence in report.conversions:
        _logger.warning("%s: %s", description, sentence)
    _logger.info("%s", report)
    return report


def _unwrap(model: nn.Module) -> nn.Module:
    """Returns the model inside DistributedDataParallel and torch.compile."""
    for name in ("_orig_mod", "module"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module) and len(list(model.children())) == 1:
            return _unwrap(inner)
    return model
