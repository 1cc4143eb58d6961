"""Loading weights into a model, whole or not at all, and saying what had to be changed for it."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ...backbones.registry import checkpoint_filter
from ...names import nearest_names
from .reading import CheckpointError, read_checkpoint
from .sources import fetch
from .state_dicts import Extracted, find_state_dict

_logger = logging.getLogger(__name__)

_SHOWN = 8  # names listed in a message


class WeightsMismatchError(ValueError):
    """Weights that do not fit a model; the model is as it was."""


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did; `str(report)` says it in sentences.

    Attributes:
        source: where the weights came from.
        form: what the checkpoint was, in words.
        key: under which of its keys the weights were; None where it was the weights.
        is_ema: whether the weights are averaged ones.
        has_both: whether the checkpoint holds trained and averaged weights.
        prefixes: what was taken off the names.
        dropped: parts of the checkpoint that this model does not have, such as a detector's neck.
        renamed: how many names were translated from a published form.
        changed: tensors that were computed from those of the checkpoint, such as joined or resized ones.
        loaded: how many tensors were loaded.
        head_classes: classes of the checkpoint and of the model, where they differ: the model's head keeps the values
            that it had. None where they do not.
        adopted_classes: classes that the model was given because the checkpoint has so many; None where it was not.
        in_chans: image channels of the checkpoint and of the model, where they differ: the first layer was adapted.
        kept: the model's other tensors that keep the values that they had.
        missing: those of them that the checkpoint should have had (`strict=False` only).
        unexpected: tensors of the checkpoint for which the model has no place (`strict=False` only).
        mismatched: tensors of another shape in the model, with both shapes (`strict=False` only).
    """

    source: str
    form: str
    key: str | None
    is_ema: bool
    has_both: bool
    prefixes: tuple[str, ...]
    dropped: tuple[str, ...]
    renamed: int
    changed: tuple[str, ...]
    loaded: int
    head_classes: tuple[int, int] | None = None
    adopted_classes: int | None = None
    in_chans: tuple[int, int] | None = None
    kept: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    @property
    def conversions(self) -> tuple[str, ...]:
        """What was changed for the model, one sentence each, that a user must know of to judge the result."""
        sentences = []
        if self.head_classes is not None:
            given, own = self.head_classes
            sentences.append(
                f"The head was not loaded: the weights have {given} classes, the model has {own}. It keeps its initial "
                "values."
                if own
                else f"The head of {given} classes was left out, as the model has none."
            )
        if self.adopted_classes is not None:
            sentences.append(f"The model was given the {self.adopted_classes} classes of the weights.")
        if self.in_chans is not None:
            given, own = self.in_chans
            sentences.append(f"The first layer was adapted from {given} to {own} image channels.")
        for what, names in (
            ("keep their initial values", self.kept),
            ("have no place in the model and were left out", self.unexpected),
            ("have another shape in the model and were left out", self.mismatched),
        ):
            if names:
                sentences.append(f"{len(names)} tensors {what}: {_some(names)}.")
        return tuple(sentences)

    def __str__(self) -> str:
        which = f" (its {'averaged' if self.is_ema else 'trained, not averaged'} weights)" if self.has_both else ""
        under = f", under {self.key!r}" if self.key else ""
        lines = [f"Loaded {self.loaded} tensors from {self.source}: a {self.form}{under}{which}."]
        if self.prefixes:
            lines.append(f"Prefixes taken off: {', '.join(repr(prefix) for prefix in self.prefixes)}.")
        if self.dropped:
            lines.append(f"Left aside: {_some(self.dropped)}.")
        if self.renamed:
            lines.append(f"{self.renamed} names were translated to the model's.")
        if self.changed:
            lines.append(f"{len(self.changed)} tensors were computed from the checkpoint's: {_some(self.changed)}.")
        return " ".join([*lines, *self.conversions])


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
    """Loads weights of any published form into a model: all that it needs, or nothing.

    A head for another number of classes is left as it is, and a first layer for another number of image channels is
    adapted (summed to one channel, or repeated and rescaled); both are said in the log and in the report.

    Args:
        model: a backbone, a `FeatureMaps` around one, a detector or segmentor (whose checkpoints hold backbone, neck
            and heads), or any of them in DistributedDataParallel or torch.compile.
        source: a path of a file or folder, an http or https address, `hf-hub:owner/name[@revision]`,
            `local-dir:folder`, or what a checkpoint file holds: a state dict, or a dict with one in it.
        strict: whether every tensor of the model must be there, and no other. Otherwise what fits is loaded, and the
            rest is said.
        use_ema: whether to take averaged weights, see `find_state_dict`.
        key: under which key of the checkpoint the weights are, for a form that is not recognised.
        filename: which file of a repository or folder.
        sha256: checksum of the file behind an address.
        cache_dir: where downloads are kept, see `checkpoints_dir`.
        progress: whether a download shows a progress bar.
        fresh_head: leave the head as it is even where its shape fits.
        adopt_classes: give the model as many classes as the weights have, instead of leaving its head as it is.

    Returns:
        What was recognised, converted and left out.

    Raises:
        WeightsMismatchError: the weights do not fit; the model is as it was.
        CheckpointError: the file is no checkpoint, is damaged, or carries what is not loaded.
        DownloadError: the file could not be fetched; the message says how to put it in place by hand.
        FileNotFoundError: there is no such file.
    """
    if isinstance(source, Mapping):
        checkpoint, said = source, "a state dict in memory"
    elif isinstance(source, (str, os.PathLike)):
        path = fetch(source, cache_dir=cache_dir, filename=filename, sha256=sha256, progress=progress)
        checkpoint, said = read_checkpoint(path), repr(os.fspath(source))
    else:
        raise ValueError(
            "Weights come from a path, an address, 'hf-hub:owner/name', 'local-dir:folder' or a state dict, not from a "
            f"{type(source).__name__}."
        )
    target = _unwrapped(model)
    whole = bool(getattr(target, "takes_whole_checkpoints", False))
    try:
        found = find_state_dict(checkpoint, use_ema, key=key, whole=whole)
    except CheckpointError as error:
        raise CheckpointError(f"{said[0].upper()}{said[1:]}: {error}") from error
    plan = _Plan(target, found, said)
    plan.fit_first_layer()
    plan.fit_head(fresh_head, adopt_classes)
    report = plan.carry_out(strict)
    for sentence in report.conversions:
        _logger.warning("%s: %s", said, sentence)
    _logger.info("%s", report)
    return report


def _unwrapped(model: nn.Module) -> nn.Module:
    """Gives the model inside of DistributedDataParallel and torch.compile."""
    for name in ("_orig_mod", "module"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module) and len(list(model.children())) == 1:
            return _unwrapped(inner)
    return model


@dataclass
class _Plan:
    """What is to be loaded into a model, in its own names; the model is only touched by `carry_out`."""

    model: nn.Module
    found: Extracted
    source: str
    own: dict[str, torch.Tensor] = field(init=False)
    given: dict[str, torch.Tensor] = field(init=False)
    renamed: int = field(init=False)
    changed: list[str] = field(init=False)
    left: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    head_classes: tuple[int, int] | None = None
    adopted_classes: int | None = None
    in_chans: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.own = self.model.state_dict()
        on_meta = next((name for name, value in self.own.items() if value.is_meta), None)
        if on_meta is not None:
            raise ValueError(
                f"{on_meta!r} is on the meta device, which holds no values; give the model memory first: "
                "model.to_empty(device='cpu')."
            )
        try:
            translate = checkpoint_filter(self.model)
        except ValueError:  # not one of ours: its names must be right as they are
            translate = dict
        state_dict = self.found.state_dict
        self.given = dict(translate(state_dict))
        self.renamed = len(self.given.keys() - state_dict.keys())
        originals = {id(value) for value in state_dict.values()}
        self.changed = [name for name, value in self.given.items() if id(value) not in originals]
        # A translation may hand the model's own tensors back where a published form has none, to load strictly.
        foreign = {value.data_ptr() for value in state_dict.values()}
        self.kept = {
            name
            for name, value in self.given.items()
            if name in self.own
            and value.numel()
            and value.data_ptr() == self.own[name].data_ptr()
            and value.data_ptr() not in foreign
        }
        self.changed = [name for name in self.changed if name not in self.kept]

    def _own_names(self, key: str) -> list[str]:
        """Gives the model's names of the layers that its configuration calls `first_conv` or `classifier`."""
        cfg = getattr(self.model, "pretrained_cfg", None) or {}
        names = cfg.get(key) or ()
        names = (names,) if isinstance(names, str) else tuple(names)
        return [place for name in names for place in (name, f"body.{name}") if f"{place}.weight" in self.own]

    def _head_names(self) -> list[str]:
        layers = getattr(self.model, "class_layers", None)
        if layers is not None:
            return layers()
        cfg = getattr(self.model, "pretrained_cfg", None) or {}
        names = cfg.get("classifier") or ()
        return [names] if isinstance(names, str) else list(names)

    def fit_first_layer(self) -> None:
        """Adapts the layers that see the image to the model's number of channels."""
        for place in self._own_names("first_conv"):
            name = f"{place}.weight"
            given, own = self.given.get(name), self.own[name]
            if given is None or given.ndim != 4 or given.shape == own.shape:
                continue
            if given.shape[0] == own.shape[0] and given.shape[2:] == own.shape[2:]:
                self.given[name] = adapt_input_channels(given, own.shape[1])
                self.in_chans = (given.shape[1], own.shape[1])

    def fit_head(self, fresh: bool, adopt: bool) -> None:
        """Leaves the head out where the numbers of classes differ, or plans to give the model as many classes."""
        for place in self._head_names():
            given, own = self.given.get(f"{place}.weight"), self.own.get(f"{place}.weight")
            if given is None:
                continue
            if own is None:
                self.head_classes = (len(given), 0)
                self._leave_out(place)
            elif given.ndim == own.ndim and given.shape[1:] == own.shape[1:]:
                if fresh:
                    self.kept |= self._leave_out(place)
                elif len(given) != len(own) and adopt:
                    self.adopted_classes = len(given)
                elif len(given) != len(own):
                    self.head_classes = self.head_classes or (len(given), len(own))
                    self._leave_out(place)

    def _leave_out(self, place: str) -> set[str]:
        """Leaves a layer as it is; gives its names in the model."""
        names = {f"{place}.weight", f"{place}.bias"}
        for name in names:
            self.given.pop(name, None)
        self.left |= names & self.own.keys()
        return names & self.own.keys()

    def carry_out(self, strict: bool) -> LoadReport:
        """Loads what was planned, if it fits."""
        head = {f"{place}.{kind}" for place in self._head_names() for kind in ("weight", "bias")}
        resized = head if self.adopted_classes is not None else set()
        missing = [name for name in self.own if name not in self.given and name not in self.left]
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]  # files of before 2018
        unexpected = [name for name in self.given if name not in self.own]
        mismatched = [
            name
            for name, value in self.given.items()
            if name in self.own and value.shape != self.own[name].shape and name not in resized
        ]
        fitting = {
            name: value
            for name, value in self.given.items()
            if name in self.own and name not in mismatched and name not in self.kept
        }
        if (strict and (missing or unexpected or mismatched)) or not fitting:
            raise WeightsMismatchError(self._complaint(missing, unexpected, mismatched, strict))
        if self.adopted_classes is not None:
            self.model.reset_classifier(self.adopted_classes)  # pyright: ignore[reportCallIssue] (timm's contract)
        self.model.load_state_dict(fitting, strict=False)
        found = self.found
        return LoadReport(
            source=self.source,
            form=found.form,
            key=found.key,
            is_ema=found.is_ema,
            has_both=found.has_both,
            prefixes=found.prefixes,
            dropped=found.dropped,
            renamed=self.renamed,
            changed=tuple(self.changed),
            loaded=len(fitting),
            head_classes=self.head_classes,
            adopted_classes=self.adopted_classes,
            in_chans=self.in_chans,
            kept=tuple(name for name in self.own if name in self.kept or name in missing or name in mismatched),
            missing=tuple(missing),
            unexpected=tuple(unexpected),
            mismatched=tuple(self._shapes(name) for name in mismatched),
        )

    def _shapes(self, name: str) -> str:
        return f"{name} {tuple(self.given[name].shape)}, not {tuple(self.own[name].shape)}"

    def _complaint(self, missing: list[str], unexpected: list[str], mismatched: list[str], strict: bool) -> str:
        lines = [
            f"The weights in {self.source} (a {self.found.form}) do not fit {type(self.model).__name__}"
            + ("; nothing was loaded." if strict else ": nothing of them does.")
        ]
        if mismatched:
            lines.append(f"  {len(mismatched)} of another shape: {_some(self._shapes(name) for name in mismatched)}")
        if missing:
            lines.append(f"  {len(missing)} missing: {_some(missing)}")
        if unexpected:
            shown = []
            for name in unexpected[:_SHOWN]:
                near = nearest_names(name, missing or list(self.own), count=1)
                shown.append(f"{name} (the nearest of the model: {near[0]})" if near else name)
            rest = f", and {len(unexpected) - _SHOWN} more" if len(unexpected) > _SHOWN else ""
            lines.append(f"  {len(unexpected)} unexpected: {', '.join(shown)}{rest}")
        head = {f"{place}.{kind}" for place in self._head_names() for kind in ("weight", "bias")}
        if strict and missing and set(missing) <= head and not unexpected and not mismatched:
            lines.append("The weights have no head: build the model with num_classes=0, or load with strict=False.")
        elif strict and mismatched and not missing and not unexpected:
            lines.append("All names fit, so the model was built with other sizes than the weights have.")
        return "\n".join(lines)


def adapt_input_channels(weight: torch.Tensor, in_chans: int) -> torch.Tensor:
    """Adapts a convolution's weight to another number of image channels, as timm does.

    Args:
        weight: (out_chans, channels, height, width).
        in_chans: channels that are wanted.

    Returns:
        (out_chans, in_chans, height, width): for one channel the sum, so that a grey image gives what its copy in every
        channel gave; for more the channels in turn, scaled so that the output keeps its size.
    """
    channels = weight.shape[1]
    if in_chans == channels:
        return weight
    wide = weight.float()
    if in_chans == 1:
        wide = wide.sum(dim=1, keepdim=True)
    else:
        wide = wide.repeat(1, math.ceil(in_chans / channels), 1, 1)[:, :in_chans] * (channels / in_chans)
    return wide.to(weight.dtype)


def _some(names: Iterable[str]) -> str:
    """Lists the first of many names."""
    names = list(names)
    rest = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
