"""Matches the weights of a checkpoint with those of a model, and loads them if they fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from ...backbones.registry import checkpoint_filter
from ...names import nearest_names
from .load_report import MAX_LISTED_NAMES, LoadReport, list_names
from .state_dicts import ExtractedWeights


class WeightsMismatchError(ValueError):
    """The weights do not fit the model. The model is unchanged."""


class _Differences(NamedTuple):
    """Names of tensors that are in the model only, in the checkpoint only, or in both with another shape or type."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]
    types: list[str]


@dataclass
class LoadPlan:
    """The weights to load into a model, under the model's names. Only `execute` changes the model.

    Attributes:
        model: Model to load into.
        extracted: Weights of the checkpoint.
        source: Where the checkpoint comes from, for messages.
        own: The model's tensors by name.
        given: The checkpoint's tensors by name in the model.
        renamed: Number of names that were translated from a published form.
        changed: Names of tensors that were computed from those of the checkpoint.
        excluded: The model's tensors that keep their values because its head has other classes.
        kept: The model's tensors that keep their values for other reasons.
        head_classes: See `LoadReport`.
        adopted_classes: See `LoadReport`.
        in_chans: See `LoadReport`.
    """

    model: nn.Module
    extracted: ExtractedWeights
    source: str
    own: dict[str, torch.Tensor] = field(init=False)
    given: dict[str, torch.Tensor] = field(init=False)
    renamed: int = field(init=False)
    changed: list[str] = field(init=False)
    excluded: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    head_classes: tuple[int, int] | None = None
    adopted_classes: int | None = None
    in_chans: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.own = self.model.state_dict()
        on_meta = next((name for name, value in self.own.items() if value.is_meta), None)
        if on_meta is not None:
            raise ValueError(
                f"{on_meta!r} is on the meta device, which stores no values. Allocate the model's memory first: "
                "model.to_empty(device='cpu')."
            )
        try:
            translate = checkpoint_filter(self.model)
        except ValueError:  # not a backbone of the zoo: the checkpoint must have the model's names
            translate = dict
        state_dict = self.extracted.state_dict
        self.given = dict(translate(state_dict))
        self.renamed = len(self.given.keys() - state_dict.keys())
        original_ids = {id(value) for value in state_dict.values()}
        # A translation returns the model's own tensors for layers that a published form does not have.
        original_pointers = {value.data_ptr() for value in state_dict.values()}
        self.kept = {
            name
            for name, value in self.given.items()
            if name in self.own
            and value.numel()
            and value.data_ptr() == self.own[name].data_ptr()
            and value.data_ptr() not in original_pointers
        }
        self.changed = [
            name for name, value in self.given.items() if id(value) not in original_ids and name not in self.kept
        ]

    def fit_first_layer(self) -> None:
        """Adapts the layers that see the image to the model's number of input channels."""
        for layer in self._configured_layers("first_conv"):
            for name in (f"{layer}.weight", f"body.{layer}.weight"):
                given, own = self.given.get(name), self.own.get(name)
                if given is None or own is None or given.ndim != 4 or given.shape == own.shape:
                    continue
                if given.shape[0] == own.shape[0] and given.shape[2:] == own.shape[2:]:
                    self.given[name] = adapt_input_channels(given, own.shape[1])
                    self.in_chans = (given.shape[1], own.shape[1])

    def fit_head(self, fresh: bool, adopt: bool) -> None:
        """Decides what happens to the layers whose size is the number of classes.

        Args:
            fresh: Keep the head's values even if its shape fits.
            adopt: If the numbers of classes differ, plan to resize the model's head instead of keeping its values.
        """
        for layer in self._head_layers():
            given, own = self.given.get(f"{layer}.weight"), self.own.get(f"{layer}.weight")
            if given is None:
                continue
            if own is None:
                self.head_classes = (len(given), 0)
                self._exclude(layer)
            elif given.ndim == own.ndim and given.shape[1:] == own.shape[1:]:
                if fresh:
                    self.kept |= self._exclude(layer)
                elif len(given) != len(own) and adopt:
                    self.adopted_classes = len(given)
                elif len(given) != len(own):
                    self.head_classes = self.head_classes or (len(given), len(own))
                    self._exclude(layer)

    def execute(self, strict: bool) -> LoadReport:
        """Loads the weights.

        Raises:
            WeightsMismatchError: They do not fit; with `strict=False`, none of them does.
        """
        resized = self._head_tensors() if self.adopted_classes is not None else set()
        differences = self._compare(resized)
        mismatched = [*differences.shapes, *differences.types]
        fitting = {
            name: value
            for name, value in self.given.items()
            if name in self.own and name not in mismatched and name not in self.kept
        }
        if (strict and any(differences)) or not fitting:
            raise WeightsMismatchError(self._mismatch_message(differences, strict))
        if self.adopted_classes is not None:
            self.model.reset_classifier(self.adopted_classes)  # pyright: ignore[reportCallIssue] (timm's contract)
        self.model.load_state_dict(fitting, strict=False)
        return LoadReport(
            source=self.source,
            form=self.extracted.form,
            key=self.extracted.key,
            is_ema=self.extracted.is_ema,
            has_both=self.extracted.has_both,
            prefixes=self.extracted.prefixes,
            dropped=self.extracted.dropped,
            renamed=self.renamed,
            changed=tuple(self.changed),
            loaded=len(fitting),
            head_classes=self.head_classes,
            adopted_classes=self.adopted_classes,
            in_chans=self.in_chans,
            kept=tuple(
                name for name in self.own if name in self.kept or name in differences.missing or name in mismatched
            ),
            missing=tuple(differences.missing),
            unexpected=tuple(differences.unexpected),
            mismatched=(*map(self._shapes, differences.shapes), *map(self._types, differences.types)),
            nonfinite=tuple(name for name, value in fitting.items() if not _is_finite(value)),
        )

    def _compare(self, resized: set[str]) -> _Differences:
        """Compares the names, shapes and types of the tensors; those of a head that is resized may differ."""
        missing = [
            name
            for name in self.own
            if name not in self.given
            and name not in self.excluded
            and not name.endswith("num_batches_tracked")  # PyTorch had no such buffer before 2018
        ]
        unexpected = [name for name in self.given if name not in self.own]
        common = [name for name in self.given if name in self.own]
        shapes = [n for n in common if n not in resized and self.given[n].shape != self.own[n].shape]
        types = [
            name
            for name in common
            if name not in shapes and self.own[name].is_floating_point() and not self.given[name].is_floating_point()
        ]
        return _Differences(missing, unexpected, shapes, types)

    def _configured_layers(self, key: str) -> list[str]:
        """Returns the layers that the model's `pretrained_cfg` names under "first_conv" or "classifier"."""
        names = (getattr(self.model, "pretrained_cfg", None) or {}).get(key) or ()
        return [names] if isinstance(names, str) else list(names)

    def _head_layers(self) -> list[str]:
        class_layers = getattr(self.model, "class_layers", None)
        return self._configured_layers("classifier") if class_layers is None else class_layers()

    def _head_tensors(self) -> set[str]:
        return {f"{layer}.{kind}" for layer in self._head_layers() for kind in ("weight", "bias")}

    def _exclude(self, layer: str) -> set[str]:
        """Excludes a layer from loading and returns the names of its tensors in the model."""
        names = {f"{layer}.weight", f"{layer}.bias"}
        for name in names:
            self.given.pop(name, None)
        self.excluded |= names & self.own.keys()
        return names & self.own.keys()

    def _shapes(self, name: str) -> str:
        return f"{name} {tuple(self.given[name].shape)}, expected {tuple(self.own[name].shape)}"

    def _types(self, name: str) -> str:
        return f"{name} {self.given[name].dtype}, expected {self.own[name].dtype}"

    def _mismatch_message(self, differences: _Differences, strict: bool) -> str:
        missing, unexpected, mismatched, types = differences
        lines = [
            f"The weights in {self.source} (a {self.extracted.form}) do not fit {type(self.model).__name__}"
            + ("; nothing was loaded." if strict else ": none of the tensors does.")
        ]
        if mismatched:
            lines.append(f"  {len(mismatched)} of another shape: {list_names(map(self._shapes, mismatched))}")
        if types:
            lines.append(f"  {len(types)} of another type: {list_names(map(self._types, types))}")
        if missing:
            lines.append(f"  {len(missing)} missing: {list_names(missing)}")
        if unexpected:
            described = []
            for name in unexpected[:MAX_LISTED_NAMES]:
                nearest = nearest_names(name, missing or list(self.own), count=1)
                described.append(f"{name} (nearest name in the model: {nearest[0]})" if nearest else name)
            lines.append(f"  {len(unexpected)} unexpected: {list_names([*described, *unexpected[MAX_LISTED_NAMES:]])}")
        if strict and missing and set(missing) <= self._head_tensors() and not (unexpected or mismatched or types):
            lines.append("The checkpoint has no head: build the model with num_classes=0, or load with strict=False.")
        elif strict and mismatched and not (missing or unexpected or types):
            lines.append("All names match, so the model was built with other sizes than the checkpoint has.")
        return "\n".join(lines)


def _is_finite(value: torch.Tensor) -> bool:
    """Reports whether a tensor has no NaN and no infinite value."""
    if not (value.is_floating_point() or value.is_complex()):
        return True
    # isfinite does not support types of 8 bits.
    return bool((value.float() if value.element_size() == 1 else value).isfinite().all())


def adapt_input_channels(weight: torch.Tensor, in_chans: int) -> torch.Tensor:
    """Adapts a convolution's weight to another number of input channels, as timm does.

    Args:
        weight: (out_chans, channels, height, width).
        in_chans: Number of input channels to adapt to.

    Returns:
        (out_chans, in_chans, height, width). For one channel this is the sum over the channels, so that a gray image
        has the same output as its copy in every channel. For more, the channels are repeated and rescaled so that the
        output keeps its magnitude.
    """
    channels = weight.shape[1]
    if in_chans == channels:
        return weight
    adapted = weight.float()
    if in_chans == 1:
        adapted = adapted.sum(dim=1, keepdim=True)
    else:
        adapted = adapted.repeat(1, math.ceil(in_chans / channels), 1, 1)[:, :in_chans] * (channels / in_chans)
    return adapted.to(weight.dtype)
