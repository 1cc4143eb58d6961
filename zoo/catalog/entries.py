"""The entries of the catalog, and looking them up."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ...names import unknown_name

_logger = logging.getLogger(__name__)

TASKS = ("detection", "segmentation")


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint of a complete detector or segmentor.

    Attributes:
        name: Name in the catalog: the recipe's, or the recipe's with a suffix after a dot if a recipe has several
            files, such as "nat_mini_mask-rcnn_3x_coco.mirror".
        family: Family of the backbone, see `attnzoo.list_families`.
        task: "detection" or "segmentation".
        config: Name of the shipped recipe that evaluates it.
        urls: http or https URLs of the same file, in the order in which they are tried.
        license: License of the weights, in words.
        source: The publication that lists the file, such as a repository's document at a revision.
        metrics: Published metrics in percent, by the names that the recipe's evaluator reports; empty if none of these
            was published.
        sha256: Checksum of the file, or at least its first 8 hexadecimal digits; None if it was not published.
    """

    name: str
    family: str
    task: str
    config: str
    urls: tuple[str, ...]
    license: str
    source: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    sha256: str | None = None

    def __post_init__(self) -> None:
        """Raises a ValueError if a field is wrong."""
        if self.task not in TASKS:
            raise ValueError(unknown_name("task", self.task, TASKS))
        if self.name.partition(".")[0] != self.config:
            raise ValueError(
                f"The name of a checkpoint must be its config's, {self.config!r}, with or without a suffix after a "
                f"dot, got {self.name!r}."
            )
        if isinstance(self.urls, str) or not self.urls:
            raise ValueError(f"{self.name}: urls must be a tuple of at least one URL, got {self.urls!r}.")
        for url in self.urls:
            if urlsplit(url).scheme not in ("http", "https"):
                raise ValueError(f"{self.name}: {url!r} is not an http or https URL.")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{8,64}", self.sha256):
            raise ValueError(f"{self.name}: sha256 must be 8 to 64 hexadecimal digits, got {self.sha256!r}.")

    @property
    def dataset(self) -> str:
        """The data set's name in the recipe's: "coco" of "..._3x_coco", "ade20k" of "..._160k_ade20k-640"."""
        return dataset_of(self.config)

    def fetch(self, *, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
        """Returns the local path of the file, after downloading it if necessary.

        Args:
            cache_dir: Cache folder, see `attnzoo.zoo.weights.download.checkpoints_dir`.
            progress: Whether to show a progress bar.

        Raises:
            DownloadError: No URL works; the message of the first one explains how to put the file in place manually.
            ChecksumError: (a DownloadError) The file differs from the published one.
        """
        from ..weights.download import DownloadError, cached_path, download

        # A file that is already in the cache, from any URL, takes precedence over the network.
        cached = [url for url in self.urls if cached_path(url, cache_dir).exists()]
        first: DownloadError | None = None
        for url in dict.fromkeys([*cached, *self.urls]):
            try:
                return download(url, cache_dir=cache_dir, sha256=self.sha256, progress=progress)
            except DownloadError as error:
                first = first or error
                if len(self.urls) > 1:
                    _logger.warning("%s: %s", self.name, error)
        assert first is not None
        raise first


_entries: dict[str, Checkpoint] = {}


def register_checkpoint(checkpoint: Checkpoint) -> None:
    """Adds a checkpoint to the catalog.

    Raises:
        ValueError: Its name or one of its URLs is in the catalog already.
    """
    if checkpoint.name in _entries:
        raise ValueError(f"The catalog already has a checkpoint {checkpoint.name!r}.")
    if len(set(checkpoint.urls)) < len(checkpoint.urls):
        raise ValueError(f"{checkpoint.name} has a URL twice: {', '.join(checkpoint.urls)}.")
    for other in _entries.values():
        for url in set(checkpoint.urls) & set(other.urls):
            raise ValueError(f"{checkpoint.name} and {other.name} have the same URL, {url}.")
    _entries[checkpoint.name] = checkpoint


def list_checkpoints(task: str | None = None, dataset: str | None = None, family: str | None = None) -> list[str]:
    """Returns the names of the published checkpoints in alphabetical order.

    Args:
        task: Return only "detection" or "segmentation".
        dataset: Return only checkpoints for this data set, by its name in recipes: "coco", "ade20k".
        family: Return only models with a backbone of this family, see `attnzoo.list_families`.

    Raises:
        ValueError: There is no such task, family, or data set in any recipe.
    """
    if task is not None and task not in TASKS:
        raise ValueError(unknown_name("task", task, TASKS))
    if family is not None:
        from ...backbones.registry import list_families

        if family not in list_families():
            raise ValueError(unknown_name("family", family, list_families()))
    if dataset is not None:
        from ..config.loading import list_configs

        datasets = {dataset_of(config) for config in list_configs()}
        if dataset not in datasets:
            raise ValueError(unknown_name("data set", dataset, datasets))
    return sorted(
        name
        for name, entry in all_checkpoints().items()
        if task in (None, entry.task) and dataset in (None, entry.dataset) and family in (None, entry.family)
    )


def get_checkpoint(name: str) -> Checkpoint:
    """Returns a published checkpoint by its name.

    Raises:
        ValueError: There is none; the message has the nearest names.
    """
    entries = all_checkpoints()
    if name not in entries:
        raise ValueError(unknown_name("published checkpoint", name, entries))
    return entries[name]


def all_checkpoints() -> Mapping[str, Checkpoint]:
    """Returns the checkpoints of all families, and those registered from outside, by name."""
    package = __package__ or ""
    for module in pkgutil.iter_modules(sys.modules[package].__path__):
        importlib.import_module(f"{package}.{module.name}")  # registers the checkpoints of a family
    return _entries


def dataset_of(config: str) -> str:
    """Returns the name of the data set in a recipe's name, without a variant: "ade20k" of "..._160k_ade20k-640"."""
    name = config.rpartition("_")[2]
    return name.partition("-")[0]
