"""Checks of the arguments that modules and models are built from, and of the images that they are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...kernels.tracing import fx_leaf
from ...names import unknown_name

if TYPE_CHECKING:
    import torch

__all__ = [
    "check_choice",
    "check_heads",
    "check_image_size",
    "check_mlp_ratio",
    "check_odd",
    "check_positive",
    "check_rates",
    "check_stages",
    "per_stage",
    "to_pair",
]


def check_positive(name: str, value: int, least: int = 1) -> None:
    """Raises a ValueError unless `value` is an int and >= `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")


def check_odd(name: str, value: int) -> None:
    """Raises a ValueError unless `value` is a positive odd int."""
    check_positive(name, value)
    if value % 2 == 0:
        raise ValueError(f"{name} must be odd, got {value}.")


def check_rates(**rates: float) -> None:
    """Raises a ValueError unless every rate (of dropout, of stochastic depth), given by name, is in [0, 1)."""
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name} must be >= 0 and < 1, got {rate!r}.")


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> None:
    """Raises a ValueError that suggests the closest name unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(unknown_name(name, value, allowed))


def check_heads(dim: int, num_heads: int) -> None:
    """Raises a ValueError unless the number of heads divides the number of channels."""
    check_positive("dim", dim)
    check_positive("num_heads", num_heads)
    if dim % num_heads:
        raise ValueError(f"num_heads must divide dim, got dim={dim} and num_heads={num_heads}.")


def check_mlp_ratio(mlp_ratio: float, dim: int, name: str = "mlp_ratio") -> None:
    """Raises a ValueError if an MLP on `dim` channels would have no hidden channel."""
    if not mlp_ratio * dim >= 1:
        raise ValueError(f"{name} must leave at least one hidden channel, got {mlp_ratio!r}.")


def check_stages(
    *, min_dim: int = 1, others: Mapping[str, Sequence[Any]] | None = None, **counts: Sequence[int]
) -> None:
    """Checks a model's arguments that have one entry per stage.

    Args:
        min_dim: Smallest number of channels of a stage.
        others: Arguments of which only the number of entries is checked, by name.
        **counts: Arguments whose entries must be positive integers, by name. Where `embed_dims` and `num_heads` are
            among them, each number of heads must divide its stage's number of channels.

    Raises:
        ValueError: The arguments differ in their numbers of entries, are empty, or have an invalid entry.
    """
    lists = {**counts, **(others or {})}
    lengths = [len(values) for values in lists.values()]
    if not lengths[0] or len(set(lengths)) > 1:
        raise ValueError(f"{_listed(lists)} must have one entry per stage, got {_listed(map(str, lengths))} entries.")
    for index in range(lengths[0]):
        for name, values in counts.items():
            check_positive(f"{name}[{index}]", values[index], min_dim if name == "embed_dims" else 1)
        if "embed_dims" in counts and "num_heads" in counts:
            dim, heads = counts["embed_dims"][index], counts["num_heads"][index]
            if dim % heads:
                raise ValueError(
                    f"num_heads[{index}] must divide embed_dims[{index}], got {heads} heads and {dim} channels."
                )


def _listed(words: Iterable[str]) -> str:
    """Joins words as in "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def per_stage(
    name: str, value: Any, num_stages: int, scalars: type | tuple[type, ...] = int, unit: str = "stage"
) -> list[Any]:
    """Returns one value per stage.

    Args:
        name: Name of the argument, for the error message.
        value: Sequence with one entry per stage; None or an instance of `scalars` applies to all stages.
        num_stages: Number of stages.
        scalars: Types that are a single value and not a sequence of values.
        unit: What the error message calls a stage.

    Raises:
        ValueError: The sequence does not have `num_stages` entries.
    """
    if value is None or isinstance(value, scalars):
        return [value] * num_stages
    if len(value) != num_stages:
        raise ValueError(f"{name} must have one entry per {unit}, got {len(value)} for {num_stages} {unit}s.")
    return list(value)


def to_pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Returns (height, width) from one positive integer or two; raises a ValueError for anything else."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in pair):
        raise ValueError(f"{name} must be a positive integer or a pair of them (height, width), got {value!r}.")
    return pair[0], pair[1]


@fx_leaf
def check_image_size(x: torch.Tensor, least: int) -> None:
    """Raises a ValueError unless images (B, C, H, W) are at least `least` pixels high and wide."""
    if x.ndim != 4:
        raise ValueError(f"Images must have the shape (batch, channels, height, width), got {tuple(x.shape)}.")
    if min(x.shape[2:]) < least:
        raise ValueError(
            f"Images must be at least {least} pixels high and wide for this model, "
            f"got height {x.shape[2]} and width {x.shape[3]}."
        )
