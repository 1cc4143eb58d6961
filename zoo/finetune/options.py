"""What a user can choose about a fine-tuning, and what is chosen for the rest."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from ...names import unknown_name

ProbeKind = Literal["linear", "efficient"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Options:
    """A user's choices. None leaves a choice to `choose_settings`.

    Attributes:
        epochs: Number of epochs.
        image_size: Side in pixels of the images that the model sees; for detection the longer side.
        batch_size: Number of images per step.
        lr: Learning rate of the head.
        layer_decay: Learning rate of a layer relative to the next one, in (0, 1]; 1 for the same rate everywhere.
        ema: Whether to average weights, and to evaluate the average.
        amp: Whether to train in mixed precision.
        patience: Number of evaluations without an improvement after which training stops; 0 never stops early.
        probe: Train a small classifier on the features of the frozen backbone: "linear" or "efficient" (attention).
        freeze: Number of stages to freeze, after the stem; -1 trains everything, 0 freezes the stem.
        weights: Weights to start from: None for the published ones, "none" for random ones, or a checkpoint as
            `load_weights` takes it.
        val_fraction: Share of the images that are held out if there is no validation split.
        seed: Seed of everything random.
        workers: Number of processes that read images.

    Raises:
        ValueError: A choice is out of range.
    """

    epochs: int | None = None
    image_size: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    layer_decay: float | None = None
    ema: bool | None = None
    amp: bool | None = None
    patience: int | None = None
    probe: ProbeKind | None = None
    freeze: int = -1
    weights: str | os.PathLike[str] | None = None
    val_fraction: float = 0.2
    seed: int = 0
    workers: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("image_size", 16), ("batch_size", 1), ("patience", 0), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be positive, got {self.lr!r}.")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {self.layer_decay!r}.")
        if self.probe is not None and self.probe not in get_args(ProbeKind):
            raise ValueError(unknown_name("probe", self.probe, get_args(ProbeKind)))

    @property
    def from_scratch(self) -> bool:
        """Whether training starts from random weights."""
        return self.weights is not None and str(self.weights).lower() == "none"


@dataclass(frozen=True)
class Facts:
    """What the choices depend on.

    Attributes:
        kind: Kind of the task.
        images: Number of training images.
        side: Median of the shorter sides of the images, in pixels.
        weights_size: Side of the images that the weights were trained with.
        stride: Total stride of the backbone; image sizes are multiples of it.
        from_scratch: Whether training starts from random weights.
        probe: Whether only a probe is trained.
        cuda: Whether training runs on a GPU.
    """

    kind: str
    images: int
    side: int
    weights_size: int
    stride: int
    from_scratch: bool
    probe: bool
    cuda: bool


@dataclass(frozen=True)
class Settings:
    """The settings of a fine-tuning; see `Options`.

    Attributes:
        warmup: Length of the warm-up in epochs.
        ema_decay: Weight of the previous average in an update; None if weights are not averaged.
        reasons: By name of a setting, why it was chosen.
    """

    epochs: int
    image_size: int
    batch_size: int
    lr: float
    layer_decay: float
    amp: bool
    patience: int
    warmup: float
    ema_decay: float | None
    workers: int
    reasons: dict[str, str]

    def loader(self, batch_size: int, collate: str) -> dict[str, Any]:
        """Returns what all data loaders have.

        Args:
            batch_size: Number of images in a batch.
            collate: Registered name of the function that collates samples.
        """
        return {
            "batch_size": batch_size,
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "collate_fn": {"type": collate},
        }

    def summary(self) -> list[str]:
        """Describes every setting with its flag and reason, one line each."""
        values = {
            "epochs": str(self.epochs),
            "image-size": f"{self.image_size} pixels",
            "batch-size": str(self.batch_size),
            "lr": f"{self.lr:.2g}",
            "layer-decay": f"{self.layer_decay:g}",
            "ema": "off" if self.ema_decay is None else f"decay {self.ema_decay:.4g}",
            "amp": "on" if self.amp else "off",
            "patience": f"{self.patience} evaluations" if self.patience else "never stops early",
            "workers": str(self.workers),
        }
        return [f"--{name:<12} {value:<20} {self.reasons.get(name, 'given')}" for name, value in values.items()]


STEPS = {"classification": (2000, 6000), "detection": (3000, 9000), "segmentation": (3000, 9000)}
"""By kind, the number of steps to aim at, from pretrained and from random weights."""
EPOCHS = {False: (10, 100), True: (30, 300)}
"""Fewest and most epochs, by whether training starts from random weights."""
BATCH_SIZES = {"classification": 64, "detection": 8, "segmentation": 8}
LEARNING_RATES = {"classification": (5e-4, 1e-3), "detection": (1e-4, 2e-4), "segmentation": (1e-4, 2e-4)}
"""By kind, the learning rates for the batch size in `BATCH_SIZES`, from pretrained and from random weights."""
PROBE_LEARNING_RATE = 2e-3


def choose_settings(options: Options, facts: Facts) -> Settings:
    """Chooses what the user left open.

    Args:
        options: The user's choices.
        facts: What the choices depend on.
    """
    reasons: dict[str, str] = {}

    def choose(name: str, given: Value | None, value: Value, reason: str) -> Value:
        if given is not None:
            return given
        reasons[name] = reason
        return value

    size = choose("image-size", options.image_size, *_image_size(facts))
    batch = choose("batch-size", options.batch_size, *_batch_size(facts))
    steps = max(1, math.ceil(facts.images / batch))
    epochs = choose("epochs", options.epochs, *_epochs(facts, steps))
    lr = choose("lr", options.lr, *_learning_rate(facts, batch))
    layer_decay = choose("layer-decay", options.layer_decay, *_layer_decay(facts))
    total = steps * epochs
    ema = choose(
        "ema", options.ema, total >= 200, "averages the last tenth of the steps" if total >= 200 else "too few steps"
    )
    amp = choose("amp", options.amp, facts.cuda, "faster on this GPU" if facts.cuda else "no faster on most CPUs")
    patience = choose("patience", options.patience, max(10, epochs // 3), "a third of the training, at least 10")
    workers = choose("workers", options.workers, _workers(facts.cuda), f"{os.cpu_count()} CPU cores")
    return Settings(
        epochs=epochs,
        image_size=size,
        batch_size=batch,
        lr=lr,
        layer_decay=layer_decay,
        amp=amp,
        patience=patience,
        warmup=min(5.0, epochs / 10),
        ema_decay=max(0.9, min(0.9999, 1 - 10 / total)) if ema else None,
        workers=workers,
        reasons=reasons,
    )


def _image_size(facts: Facts) -> tuple[int, str]:
    """Returns the image size and the reason: that of the weights, unless the images are much smaller."""
    if facts.kind != "classification":
        longest = 1333 if facts.cuda else 640
        fitting = min(longest, math.ceil(facts.side * 4 / 3 / facts.stride) * facts.stride)
        return max(2 * facts.stride, fitting), f"the images' shorter sides have {facts.side} pixels (median)"
    doubled = math.ceil(2 * facts.side / facts.stride) * facts.stride
    if facts.from_scratch:
        doubled = math.ceil(facts.side / facts.stride) * facts.stride
    if doubled >= facts.weights_size:
        return facts.weights_size, "that of the weights"
    smallest = max(doubled, facts.stride)
    enlarged = "" if facts.from_scratch else ", enlarged at most twice"
    return smallest, f"the images' shorter sides have {facts.side} pixels (median){enlarged}"


def _batch_size(facts: Facts) -> tuple[int, str]:
    usual, most = BATCH_SIZES[facts.kind], max(1, facts.images // 4)
    return (usual, "usual") if usual <= most else (most, f"a quarter of the {facts.images} training images")


def _epochs(facts: Facts, steps: int) -> tuple[int, str]:
    """Returns the number of epochs of so many steps, and the reason."""
    target = STEPS[facts.kind][facts.from_scratch]
    fewest, most = EPOCHS[facts.from_scratch]
    epochs = min(most, max(fewest, round(target / steps)))
    return epochs, f"about {target} steps, but {fewest} to {most} epochs; an epoch has {steps} steps"


def _learning_rate(facts: Facts, batch_size: int) -> tuple[float, str]:
    base = PROBE_LEARNING_RATE if facts.probe else LEARNING_RATES[facts.kind][facts.from_scratch]
    usual = BATCH_SIZES[facts.kind]
    reason = f"{base:g} for {_start(facts)}, scaled by the square root of batch size / {usual}"
    return base * math.sqrt(batch_size / usual), reason


def _layer_decay(facts: Facts) -> tuple[float, str]:
    if facts.probe or facts.from_scratch:
        return 1.0, f"the same rate for all layers of {_start(facts)}"
    return 0.75, "early layers of pretrained weights change less"


def _start(facts: Facts) -> str:
    return "a probe" if facts.probe else "random weights" if facts.from_scratch else "pretrained weights"


def _workers(cuda: bool) -> int:
    cores = os.cpu_count() or 1
    return min(8, cores) if cuda else max(0, min(4, cores - 1))
