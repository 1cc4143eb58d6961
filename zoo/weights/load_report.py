"""What `load_weights` found, converted and left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..preprocessing import Preprocessing

MAX_LISTED_NAMES = 8


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did. `str(report)` describes it in sentences.

    Attributes:
        source: Where the weights came from.
        form: Description of the checkpoint's format.
        key: Key of the checkpoint that the weights were under; None if the checkpoint is itself a state dict.
        is_ema: Whether the weights are averaged ones (EMA).
        has_both: Whether the checkpoint has both trained and averaged weights.
        prefixes: Prefixes that were removed from the names.
        dropped: Parts of the checkpoint that this model does not have, such as a detector's neck.
        renamed: Number of names that were translated from a published form.
        changed: Tensors that were computed from those of the checkpoint, for example concatenated or resized.
        loaded: Number of tensors that were loaded.
        head_classes: Numbers of classes of the checkpoint and of the model if they differ. The model's head then keeps
            its values.
        adopted_classes: Number of classes that the model's head was resized to; None if it was not.
        in_chans: Numbers of input channels of the checkpoint and of the model if they differ. The first layer was then
            adapted.
        kept: The model's other tensors that keep their values.
        missing: Tensors among `kept` that the checkpoint should have had (`strict=False` only).
        unexpected: Tensors of the checkpoint that the model does not have (`strict=False` only).
        mismatched: Tensors whose shapes or types differ, with both shapes or types (`strict=False` only).
        nonfinite: Loaded tensors that contain NaN or infinite values.
        preprocessing: How images are prepared for the weights, if the checkpoint carries it. The model's
            `pretrained_cfg` was updated with it.
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
    nonfinite: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    @property
    def conversions(self) -> tuple[str, ...]:
        """Sentences about every change that a user must know of to judge the model's results."""
        sentences = []
        if self.head_classes is not None:
            checkpoint, model = self.head_classes
            sentences.append(
                f"The head was not loaded: the checkpoint has {checkpoint} classes, the model has {model}. It keeps "
                "its initial values."
                if model
                else f"The checkpoint's head of {checkpoint} classes was left out, because the model has no head."
            )
        if self.adopted_classes is not None:
            sentences.append(f"The model's head was resized to the {self.adopted_classes} classes of the checkpoint.")
        if self.in_chans is not None:
            checkpoint, model = self.in_chans
            sentences.append(f"The first layer was adapted from {checkpoint} to {model} input channels.")
        for what, names in (
            ("keep their initial values", self.kept),
            ("are not in the model and were left out", self.unexpected),
            ("have another shape or type in the model and were left out", self.mismatched),
            ("contain NaN or infinite values", self.nonfinite),
        ):
            if names:
                sentences.append(f"{len(names)} tensors {what}: {list_names(names)}.")
        return tuple(sentences)

    def __str__(self) -> str:
        which = f" (its {'averaged' if self.is_ema else 'trained, not averaged'} weights)" if self.has_both else ""
        under = f", under {self.key!r}" if self.key else ""
        sentences = [f"Loaded {self.loaded} tensors from {self.source}: a {self.form}{under}{which}."]
        if self.prefixes:
            sentences.append(f"Removed prefixes: {', '.join(repr(prefix) for prefix in self.prefixes)}.")
        if self.dropped:
            sentences.append(f"Left out: {list_names(self.dropped)}.")
        if self.renamed:
            sentences.append(f"{self.renamed} names were translated to the model's.")
        if self.changed:
            sentences.append(
                f"{len(self.changed)} tensors were computed from the checkpoint's: {list_names(self.changed)}."
            )
        return " ".join([*sentences, *self.conversions])


def list_names(names: Iterable[str]) -> str:
    """Lists the first of many names."""
    names = list(names)
    more = f", and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    return ", ".join(names[:MAX_LISTED_NAMES]) + more
