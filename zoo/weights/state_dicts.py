"""Finding the weights in what training scripts save: which entry holds them, raw or averaged, under which prefixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .reading import CheckpointError

RAW_KEYS = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "module", "params")
"""Under which keys scripts save the weights that were trained."""

AVERAGED_KEYS = ("ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema")
"""Under which keys scripts save their exponential moving average."""

# Data parallel, torch.compile, Lightning's modules, and our backbones inside OpenMMLab's detectors.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "maps.")
_COUNTERS = ("n_averaged", "steps")  # what torch's AveragedModel and mmengine's averages add to a state dict


@dataclass(frozen=True)
class Extracted:
    """The weights of a checkpoint, and how they were found.

    Attributes:
        state_dict: names to tensors, without the prefixes of wrappers and tasks.
        form: what the checkpoint is, in words.
        key: under which key the weights were; None where the checkpoint is the weights.
        is_ema: whether they are the averaged ones.
        has_both: whether the checkpoint holds trained and averaged weights.
        prefixes: what was taken off the names, in order.
        dropped: parts of a task that are not the backbone ("neck", "decode_head"), and entries that are no tensors.
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
    """Finds the weights in a checkpoint, see `find_state_dict`.

    Returns:
        Names to tensors, without the prefixes of wrappers and tasks.
    """
    return find_state_dict(checkpoint, use_ema, key=key).state_dict


def find_state_dict(
    checkpoint: Mapping[str, Any], use_ema: bool | None = None, *, key: str | None = None, whole: bool = False
) -> Extracted:
    """Finds the weights in a checkpoint, and says how.

    Recognised: a state dict itself; training checkpoints of this project, timm, mmengine, DeiT-like scripts, Lightning
    and DeepSpeed; `module.` and other prefixes of wrappers; checkpoints of tasks, of which the backbone is taken.

    Args:
        checkpoint: what `read_checkpoint` returned.
        use_ema: whether to take averaged weights. True and False insist. None takes what the script that wrote the
            file evaluates: the averaged ones, except beside an entry "model_ema", since DeiT and its descendants
            evaluate "model".
        key: under which key to look, for a form that is not recognised.
        whole: keep all parts of a task's checkpoint under their names, `backbone.` and others.

    Returns:
        The weights. Tensors are not copied; NumPy arrays become tensors.

    Raises:
        CheckpointError: there are no weights, or not the ones asked for; the message lists what there is.
    """
    if key is not None:
        found, is_ema, has_both = _at(checkpoint, key), key in AVERAGED_KEYS, False
    else:
        key, found, is_ema, has_both = _choose(checkpoint, use_ema)
    if not _is_state_dict(found):  # such as {"model": {"state_dict": ...}}
        inner = find_state_dict(found, use_ema, whole=whole)
        outer = key if inner.key is None else f"{key}.{inner.key}"
        return Extracted(
            inner.state_dict,
            inner.form,
            outer,
            is_ema or inner.is_ema,
            has_both or inner.has_both,
            inner.prefixes,
            inner.dropped,
        )
    tensors = {name: _tensor(value) for name, value in found.items() if isinstance(value, (torch.Tensor, np.ndarray))}
    dropped = [name for name in found if name not in tensors or name in _COUNTERS]
    tensors = {name: value for name, value in tensors.items() if name not in _COUNTERS}
    tensors, prefixes, parts = _strip(tensors, whole)
    is_task = "backbone." in prefixes or any(name.startswith("backbone.") for name in tensors)
    form = _form(checkpoint, key, is_task)
    return Extracted(tensors, form, key, is_ema, has_both, prefixes, tuple(dropped + parts))


def _is_state_dict(value: Any) -> bool:
    """Tells whether a mapping holds tensors itself."""
    return (
        isinstance(value, Mapping)
        and all(isinstance(name, str) for name in value)
        and any(isinstance(entry, (torch.Tensor, np.ndarray)) for entry in value.values())
    )


def _holds_weights(value: Any, depth: int = 2) -> bool:
    """Tells whether there is a state dict in an entry, at most `depth` levels down."""
    if _is_state_dict(value):
        return True
    return (
        depth > 0
        and isinstance(value, Mapping)
        and any(_holds_weights(value.get(key), depth - 1) for key in (*RAW_KEYS, *AVERAGED_KEYS))
    )


def _at(checkpoint: Mapping[str, Any], key: str) -> Any:
    if not _holds_weights(checkpoint.get(key)):
        raise CheckpointError(f"There are no weights under {key!r}. {_contents(checkpoint)}")
    return checkpoint[key]


def _choose(checkpoint: Mapping[str, Any], use_ema: bool | None) -> tuple[str | None, Any, bool, bool]:
    """Gives the key of the weights, the weights, whether they are averaged, and whether there are both kinds."""
    raw = next((key for key in RAW_KEYS if _holds_weights(checkpoint.get(key))), None)
    averaged = next((key for key in AVERAGED_KEYS if _holds_weights(checkpoint.get(key))), None)
    if averaged == "ema_state_dict" and raw == "state_dict" and "steps" in checkpoint[averaged]:
        # mmengine's EMAHook exchanges the two when it saves, so that "state_dict" can be deployed as it is.
        raw, averaged = averaged, raw
    if raw is None and averaged is None:
        if not _is_state_dict(checkpoint):
            raise CheckpointError(f"There are no weights in this checkpoint. {_contents(checkpoint)}")
        if use_ema:
            raise CheckpointError(
                "use_ema=True, but this is one set of weights, not a checkpoint that holds averaged ones."
            )
        return None, checkpoint, False, False
    if use_ema is None:
        use_ema = averaged is not None and not (averaged == "model_ema" and raw is not None)
    chosen = averaged if use_ema else raw
    if chosen is None:
        there = f"Its weights are under {raw or averaged!r}."
        raise CheckpointError(
            f"The checkpoint holds no {'averaged' if use_ema else 'other than averaged'} weights. {there}"
        )
    return chosen, checkpoint[chosen], use_ema, raw is not None and averaged is not None


def _contents(checkpoint: Mapping[str, Any]) -> str:
    keys = [str(key) for key in checkpoint]
    shown = ", ".join(repr(key) for key in keys[:12]) + (", ..." if len(keys) > 12 else "")
    return f"It holds: {shown or 'nothing'}."


def _tensor(value: torch.Tensor | np.ndarray) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))


def _strip(tensors: dict[str, torch.Tensor], whole: bool) -> tuple[dict[str, torch.Tensor], tuple[str, ...], list[str]]:
    """Takes the prefixes of wrappers and tasks off; gives the rest, the prefixes, and a task's other parts."""
    prefixes: list[str] = []
    parts: list[str] = []
    while tensors:
        wrapper = next((prefix for prefix in _WRAPPERS if all(name.startswith(prefix) for name in tensors)), None)
        if wrapper is not None:
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
            prefixes.append(wrapper)
        elif not whole and any(name.startswith("backbone.") for name in tensors):
            body = {name.removeprefix("backbone."): v for name, v in tensors.items() if name.startswith("backbone.")}
            rest = {name: value for name, value in tensors.items() if not name.startswith("backbone.")}
            # OpenMMLab's classifiers keep the classifier beside the backbone, as "head.fc".
            if not any(name.startswith("head.") for name in body):
                body |= {name: value for name, value in rest.items() if name.startswith("head.")}
            parts += sorted({name.partition(".")[0] for name in rest if name not in body})
            tensors = body
            prefixes.append("backbone.")
        else:
            break
    return tensors, tuple(prefixes), parts


def _form(checkpoint: Mapping[str, Any], key: str | None, is_task: bool) -> str:
    meta = checkpoint.get("meta")
    if str(checkpoint.get("format", "")).startswith("attnzoo."):
        return "training checkpoint of attnzoo"
    if isinstance(meta, Mapping) and any(name in meta for name in ("mmengine_version", "mmcv_version")):
        return "OpenMMLab checkpoint"
    if is_task:
        return "checkpoint of a task"
    return "state dict" if key is None else "training checkpoint"
