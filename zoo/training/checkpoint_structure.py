"""Checks that a training checkpoint is complete and consistent in itself, before any part of it is applied."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from ..weights.errors import CheckpointError
from .logs import HISTORY_LENGTH


def check_structure(state: Mapping[str, Any]) -> None:
    """Checks every part of a checkpoint that does not depend on the run that resumes from it.

    Args:
        state: The content of a checkpoint, see `checkpoint`.

    Raises:
        CheckpointError: A part is missing, has another type, or is out of range. The message names its place.
    """
    _check_meta(_part(state, "meta", dict, "checkpoint"))
    check_tensors(state.get("state_dict"), "state_dict")
    if ("ema_state_dict" in state) != ("ema_updates" in state["meta"]):
        fail("ema_state_dict", "in the checkpoint together with meta.ema_updates", None)
    if "ema_state_dict" in state:
        check_tensors(state["ema_state_dict"], "ema_state_dict")
    _check_optimizer(_part(state, "optimizer", dict, "checkpoint"))
    for i, schedule in enumerate(_part(state, "param_schedulers", list, "checkpoint")):
        _check_type(schedule, dict, f"param_schedulers[{i}]")
        for name in ("last_step", "_global_step"):
            if name in schedule:
                _check_count(schedule[name], f"param_schedulers[{i}].{name}", most=state["meta"]["iter"] + 1)
    states = _part(state, "random_states", list, "checkpoint")
    if len(states) != state["meta"]["world_size"]:
        fail("random_states", f"a list of {state['meta']['world_size']}, one per process", states)
    for i, entry in enumerate(states):
        _check_random_states(entry, f"random_states[{i}]")
    for name, hook in _part(state, "hooks", dict, "checkpoint").items():
        _check_type(name, str, "a key of hooks")
        _check_type(hook, dict, f"hooks.{name}")
    log_history(_part(state, "message_hub", dict, "checkpoint"))


def fail(where: str, allowed: str, value: Any) -> NoReturn:
    """Raises a CheckpointError about a value.

    Args:
        where: Place of the value in the checkpoint.
        allowed: What it must be.
        value: The value.
    """
    raise CheckpointError(f"{where} must be {allowed}, got {describe(value)}.")


def describe(value: Any) -> str:
    """Describes a value in a few words."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_number(value: Any) -> bool:
    """Returns whether a value is an int or float."""
    return type(value) in (int, float)


def check_tensors(value: Any, where: str) -> None:
    """Checks that a value is a dict of tensors by name.

    Raises:
        CheckpointError: It is not.
    """
    _check_type(value, dict, where)
    for name, tensor in value.items():
        _check_type(name, str, f"a key of {where}")
        _check_type(tensor, torch.Tensor, f"{where}.{name}")


def _check_type(value: Any, kind: type, where: str) -> None:
    # A bool is not accepted as an int.
    if not (isinstance(value, torch.Tensor) if kind is torch.Tensor else type(value) is kind):
        fail(where, f"a {kind.__name__}", value)


def _check_count(value: Any, where: str, least: int = 0, most: int | None = None) -> None:
    if type(value) is not int or value < least or (most is not None and value > most):
        fail(where, f"an integer >= {least}" if most is None else f"an integer from {least} to {most}", value)


def _part(state: Mapping[Any, Any], name: str, kind: type, where: str) -> Any:
    if name not in state:
        raise CheckpointError(f"{where} has no {name!r}.")
    _check_type(state[name], kind, name if where == "checkpoint" else f"{where}.{name}")
    return state[name]


def _check_meta(meta: Mapping[Any, Any]) -> None:
    for name in ("epoch", "iter", "step_in_epoch", "validated_at"):
        _check_count(_part(meta, name, int, "meta"), f"meta.{name}")
    for name in ("epoch_length", "batch_size", "world_size"):
        _check_count(_part(meta, name, int, "meta"), f"meta.{name}", least=1)
    for name in ("validation_pending", "stop_training"):
        _part(meta, name, bool, "meta")
    _check_count(_part(meta, "seed", int, "meta"), "meta.seed", most=2**32 - 1)
    for name, value in _part(meta, "metrics", dict, "meta").items():
        if type(name) is not str or not isinstance(value, (int, float)):
            fail(f"meta.metrics.{name}", "a number with a name", value)
    length, step = meta["epoch_length"], meta["step_in_epoch"]
    if step >= length:
        fail("meta.step_in_epoch", f"less than meta.epoch_length, {length}", step)
    if meta["iter"] != meta["epoch"] * length + step:
        fail("meta.iter", f"{meta['epoch']} epochs x {length} batches + {step}", meta["iter"])
    _check_count(meta["validated_at"], "meta.validated_at", most=meta["iter"])
    if "ema_updates" in meta:
        _check_count(meta["ema_updates"], "meta.ema_updates", most=meta["iter"])
    # Checkpoints of earlier versions do not have the following.
    for name, kind in (("optimizer", str), ("samples", int), ("classes", list)):
        if meta.get(name) is not None:
            _check_type(meta[name], kind, f"meta.{name}")
    for name in meta.get("classes") or ():
        _check_type(name, str, "an entry of meta.classes")


def _check_optimizer(optimizer: Mapping[Any, Any]) -> None:
    indices: list[int] = []
    for i, group in enumerate(_part(optimizer, "param_groups", list, "optimizer")):
        where = f"optimizer.param_groups[{i}]"
        _check_type(group, dict, where)
        for name in group:
            _check_type(name, str, f"a key of {where}")
        for index in _part(group, "params", list, where):
            _check_count(index, f"an entry of {where}.params")
            indices.append(index)
    if indices != list(range(len(indices))):
        fail("optimizer.param_groups", "groups of consecutive parameters", indices)
    for index, values in _part(optimizer, "state", dict, "optimizer").items():
        if type(index) is not int or index not in range(len(indices)):
            fail("a key of optimizer.state", f"the index of one of {len(indices)} parameters", index)
        _check_type(values, dict, f"optimizer.state[{index}]")
    for name in ("loss_scaler", "base_param_settings"):
        if name in optimizer:
            _check_type(optimizer[name], dict, f"optimizer.{name}")


def _check_random_states(states: Any, where: str) -> None:
    """Checks the states of one process by setting generators of their own to them."""
    try:
        version, internal, gauss = states["python"]
        random.Random().setstate((version, tuple(internal), gauss))
        if gauss is not None and type(gauss) is not float:
            raise ValueError(f"the cached number of Python's generator is {gauss!r}")
        np.random.RandomState().set_state(numpy_state(states["numpy"]))
        torch.Generator().set_state(states["torch"])
        cuda = states["cuda"]
        if cuda is not None and torch.cuda.is_available():
            torch.Generator("cuda").set_state(cuda)
    except Exception as error:  # each library raises its own for states that are not its own
        raise CheckpointError(f"{where} is not a set of states of random generators: {error!r}.") from error
    if cuda is not None and (not isinstance(cuda, torch.Tensor) or cuda.dtype != torch.uint8):
        fail(f"{where}.cuda", "None or a tensor of bytes", cuda)


def numpy_state(state: Mapping[str, Any]) -> tuple[str, np.ndarray, int, int, float]:
    """Returns the state of NumPy's global generator in NumPy's form.

    Args:
        state: The entry "numpy" of `random_states`.

    Raises:
        ValueError: A number is out of range.
        KeyError, TypeError, AttributeError: It is not such an entry.
    """
    keys = state["keys"].numpy()
    position, has_gauss, cached = state["position"], state["has_gauss"], state["cached"]
    types = [type(value) for value in (position, has_gauss, cached)]
    if types != [int, int, float] or position not in range(625) or has_gauss not in (0, 1):
        raise ValueError("the position of NumPy's generator is out of range")
    if keys.dtype != np.int64 or keys.min() < 0 or keys.max() >= 2**32:
        raise ValueError("the numbers of NumPy's generator are out of range")
    return "MT19937", keys.astype(np.uint32), position, has_gauss, cached


def log_history(hub: Mapping[str, Any]) -> tuple[dict[str, HistoryBuffer], dict[str, Any]]:
    """Returns the log history and the runtime information of a checkpoint.

    Args:
        hub: The entry "message_hub" of a checkpoint.

    Raises:
        CheckpointError: It is incomplete or inconsistent.
    """
    buffers = {}
    for name, values in _part(hub, "log_scalars", dict, "message_hub").items():
        where = f"message_hub.log_scalars.{name}"
        _check_type(name, str, "a key of message_hub.log_scalars")
        _check_type(values, dict, where)
        history, counts = (_part(values, key, torch.Tensor, where) for key in ("history", "counts"))
        numeric = all(tensor.dtype in (torch.float64, torch.int64) for tensor in (history, counts))
        if not numeric or history.ndim != 1 or history.shape != counts.shape:
            fail(where, "two lists of numbers of the same length", (history, counts))
        buffers[name] = HistoryBuffer(history.numpy(), counts.numpy(), max_length=HISTORY_LENGTH)
    info = _part(hub, "runtime_info", dict, "message_hub")
    for name, value in info.items():
        _check_type(name, str, "a key of message_hub.runtime_info")
        if value is not None and not isinstance(value, (str, int, float, bool)):
            fail(f"message_hub.runtime_info.{name}", "a plain value", value)
    return buffers, dict(info)
