"""Finds the weights in what training scripts save: under which key, trained or averaged, with which prefixes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...deprecated_paths import renamed_names
from .reading import CheckpointError

__getattr__ = renamed_names(__name__, {"Extracted": "ExtractedWeights"})

RAW_KEYS = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "module", "params")
"""Keys under which training scripts save the trained weights."""

AVERAGED_KEYS = ("ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema")
"""Keys under which training scripts save the exponential moving average of the weights."""

# DataParallel, torch.compile, Lightning's modules, and the zoo's backbones in OpenMMLab's detectors.
_WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.", "maps.")
# NumPy's types that torch has, too.
_ARRAY_TYPES = {
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
    np.float16, np.float32, np.float64, np.complex64, np.complex128,
}  # fmt: skip
_COUNTERS = ("n_averaged", "steps")  # entries that torch's AveragedModel and mmengine's averages add


@dataclasses.dataclass(frozen=True)
class ExtractedWeights:
    """The weights of a checkpoint, and how they were found.

    Attributes:
        state_dict: Tensors by name, without the prefixes of wrappers and tasks.
        form: Description of the checkpoint's format.
        key: Key that the weights were under; None if the checkpoint is itself a state dict.
        is_ema: Whether they are averaged weights (EMA).
        has_both: Whether the checkpoint has both trained and averaged weights.
        prefixes: Prefixes that were removed from the names, in this order.
        dropped: Parts of a task other than the backbone ("neck", "decode_head"), and entries that are not tensors.
    """

    state_dict: dict[str, torch.Tensor]
    form: str
    key: str | None
    is_ema: bool
    has_both: bool
    prefixes: tuple[str, ...]
    dropped: tuple[str, ...]


def extract_state_dict(
    checkpoint: Mapping[str, Any], use_ema: bool | None = None, *, key: str | None = None
) -> dict[str, torch.Tensor]:
    """Returns the weights in a checkpoint, without the prefixes of wrappers and tasks; see `find_state_dict`."""
    return find_state_dict(checkpoint, use_ema, key=key).state_dict


def find_state_dict(
    checkpoint: Mapping[str, Any], use_ema: bool | None = None, *, key: str | None = None, keep_all_parts: bool = False
) -> ExtractedWeights:
    """Finds the weights in a checkpoint.

    It recognizes state dicts; training checkpoints of attnzoo, timm, mmengine, DeiT and its descendants, Lightning and
    DeepSpeed; `module.` and other prefixes of wrappers; and checkpoints of tasks, whose backbone is returned.

    Args:
        checkpoint: Content of the checkpoint file, as returned by `read_checkpoint`.
        use_ema: True for averaged weights, False for trained ones. None chooses those that the script which wrote the
            file evaluates: the averaged ones, except for those under "model_ema", because DeiT and its descendants
            evaluate "model".
        key: Key that the weights are under, for a format that is not recognized.
        keep_all_parts: Return all parts of a task, under their names (`backbone.` and others).

    Returns:
        The weights. Tensors are not copied; NumPy arrays are converted to tensors.

    Raises:
        CheckpointError: There are no weights, or not those asked for; the message lists what the checkpoint contains.
    """
    if key is not None:
        found, is_ema, has_both = _weights_under(checkpoint, key), key in AVERAGED_KEYS, False
    else:
        key, found, is_ema, has_both = _choose(checkpoint, use_ema)
    if not _is_state_dict(found):  # nested, for example {"model": {"state_dict": ...}}
        inner = find_state_dict(found, use_ema, keep_all_parts=keep_all_parts)
        return dataclasses.replace(
            inner,
            key=key if inner.key is None else f"{key}.{inner.key}",
            is_ema=is_ema or inner.is_ema,
            has_both=has_both or inner.has_both,
        )
    tensors = {name: _to_tensor(value) for name, value in found.items() if _is_weight(value)}
    dropped = [name for name in found if name not in tensors or name in _COUNTERS]
    tensors = {name: value for name, value in tensors.items() if name not in _COUNTERS}
    tensors, prefixes, parts = _strip_prefixes(tensors, keep_all_parts)
    is_task = "backbone." in prefixes or any(name.startswith("backbone.") for name in tensors)
    form = _describe_form(checkpoint, key, is_task)
    return ExtractedWeights(tensors, form, key, is_ema, has_both, prefixes, tuple(dropped + parts))


def _is_state_dict(value: Any) -> bool:
    """Reports whether a value is a mapping of names with tensors among its values."""
    return (
        isinstance(value, Mapping)
        and all(isinstance(name, str) for name in value)
        and any(_is_weight(entry) for entry in value.values())
    )


def _is_weight(value: Any) -> bool:
    """Reports whether a value is a tensor, or an array that can become one."""
    return isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype.type in _ARRAY_TYPES)


def _has_weights(value: Any, depth: int = 2) -> bool:
    """Reports whether an entry is a state dict, or contains one at most `depth` levels down."""
    if _is_state_dict(value):
        return True
    return (
        depth > 0
        and isinstance(value, Mapping)
        and any(_has_weights(value.get(key), depth - 1) for key in (*RAW_KEYS, *AVERAGED_KEYS))
    )


def _weights_under(checkpoint: Mapping[str, Any], key: str) -> Any:
    if not _has_weights(checkpoint.get(key)):
        raise CheckpointError(f"There are no weights under {key!r}. {_list_keys(checkpoint)}")
    return checkpoint[key]


def _choose(checkpoint: Mapping[str, Any], use_ema: bool | None) -> tuple[str | None, Any, bool, bool]:
    """Chooses the trained or the averaged weights.

    Returns:
        The key of the weights, the weights, whether they are averaged, and whether the checkpoint has both kinds.
    """
    raw = next((key for key in RAW_KEYS if _has_weights(checkpoint.get(key))), None)
    averaged = next((key for key in AVERAGED_KEYS if _has_weights(checkpoint.get(key))), None)
    if averaged == "ema_state_dict" and raw == "state_dict" and "steps" in checkpoint[averaged]:
        # mmengine's EMAHook swaps the two when it saves, so that "state_dict" can be deployed.
        raw, averaged = averaged, raw
    if raw is None and averaged is None:
        if not _is_state_dict(checkpoint):
            raise CheckpointError(f"There are no weights in this checkpoint. {_list_keys(checkpoint)}")
        if use_ema:
            raise CheckpointError("use_ema=True, but this is a single state dict without averaged weights.")
        return None, checkpoint, False, False
    if use_ema is None:
        use_ema = averaged is not None and not (averaged == "model_ema" and raw is not None)
    chosen = averaged if use_ema else raw
    if chosen is None:
        missing = "averaged" if use_ema else "trained"
        raise CheckpointError(f"The checkpoint has no {missing} weights. Its weights are under {raw or averaged!r}.")
    return chosen, checkpoint[chosen], use_ema, raw is not None and averaged is not None


def _list_keys(checkpoint: Mapping[str, Any]) -> str:
    keys = [str(key) for key in checkpoint]
    listed = ", ".join(repr(key) for key in keys[:12]) + (", ..." if len(keys) > 12 else "")
    return f"Its keys are: {listed or 'none'}."


def _to_tensor(value: torch.Tensor | np.ndarray) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))


def _strip_prefixes(
    tensors: dict[str, torch.Tensor], keep_all_parts: bool
) -> tuple[dict[str, torch.Tensor], tuple[str, ...], list[str]]:
    """Removes the prefixes of wrappers and tasks.

    Returns:
        The tensors under their short names, the prefixes, and the names of a task's other parts.
    """
    prefixes: list[str] = []
    other_parts: list[str] = []
    while tensors:
        wrapper = next(
            (prefix for prefix in _WRAPPER_PREFIXES if all(name.startswith(prefix) for name in tensors)), None
        )
        if wrapper is not None:
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
            prefixes.append(wrapper)
        elif not keep_all_parts and any(name.startswith("backbone.") for name in tensors):
            body = {name.removeprefix("backbone."): v for name, v in tensors.items() if name.startswith("backbone.")}
            others = {name: value for name, value in tensors.items() if not name.startswith("backbone.")}
            # OpenMMLab's classifiers have their head next to the backbone, as "head.fc".
            if not any(name.startswith("head.") for name in body):
                body |= {name: value for name, value in others.items() if name.startswith("head.")}
            other_parts += sorted({name.partition(".")[0] for name in others if name not in body})
            tensors = body
            prefixes.append("backbone.")
        else:
            break
    return tensors, tuple(prefixes), other_parts


def _describe_form(checkpoint: Mapping[str, Any], key: str | None, is_task: bool) -> str:
    meta = checkpoint.get("meta")
    if str(checkpoint.get("format", "")).startswith("attnzoo."):
        return "training checkpoint of attnzoo"
    if isinstance(meta, Mapping) and any(name in meta for name in ("mmengine_version", "mmcv_version")):
        return "OpenMMLab checkpoint"
    if is_task:
        return "checkpoint of a task"
    return "state dict" if key is None else "training checkpoint"
