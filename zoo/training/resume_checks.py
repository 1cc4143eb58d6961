"""Checks that a checkpoint fits a run, before any part of it is applied."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..weights.errors import CheckpointError
from .checkpoint_structure import describe, fail, is_number
from .loaders import batch_size
from .model_setup import unwrap_model

_START_AGAIN = "or set load_from to start from its weights, without resume"
_MOVING_OPTIONS = frozenset({"params", "lr", "initial_lr"})
"""Options of a parameter group that training changes or that the schedules set."""


class ResumeMismatch(ValueError):
    """The run differs from the one that wrote a checkpoint, in a way that its user must decide about."""


def run_identity(runner: Any) -> dict[str, Any]:
    """Returns what a run must have in common with the one that it resumes, as plain types.

    Args:
        runner: The Runner, with its training loop and optimizer built.

    Returns:
        "classes" (names by label, None if the data has none), "samples" (number of training samples), "optimizer"
        (name of its type), "world_size", "epoch_length" and "batch_size".
    """
    loader = runner.train_loop.dataloader
    classes = getattr(loader.dataset, "classes", None)
    return {
        "classes": [str(name) for name in classes] if classes else None,
        "samples": len(loader.dataset),
        "optimizer": type(runner.optim_wrapper.optimizer).__name__,
        "world_size": runner.world_size,
        "epoch_length": runner.train_loop.epoch_length,
        "batch_size": batch_size(loader),
    }


def check_identity(runner: Any, path: Any, meta: Mapping[str, Any]) -> None:
    """Compares a run with the one that wrote a checkpoint.

    Args:
        runner: The Runner, with its training loop and optimizer built.
        path: Path of the checkpoint, for messages.
        meta: The entry "meta" of the checkpoint, see `check_structure`.

    Raises:
        ResumeMismatch: They have other classes, another optimizer, or another position in the data.
    """
    current = run_identity(runner)
    # Checkpoints of earlier versions do not have all of them.
    saved = {name: meta[name] for name in current if name in meta}
    changed = [name for name, value in saved.items() if value != current[name]]
    if "classes" in changed:
        raise ResumeMismatch(
            f"{path} was trained with other classes: {_compare_names(saved['classes'], current['classes'])} Labels are "
            f"positions in this list, so they would change their meaning. Restore the classes, {_START_AGAIN}."
        )
    if "optimizer" in changed:
        raise ResumeMismatch(
            f"{path} was trained with the optimizer {saved['optimizer']}, but the config has {current['optimizer']}. "
            f"Resume with the same optimizer, {_START_AGAIN}."
        )
    if changed:
        old, new = ({name: values[name] for name in changed} for values in (saved, current))
        raise ResumeMismatch(
            f"{path} is from a run with {_list_values(old)} (batch size per process), but this one has "
            f"{_list_values(new)}, so its position in the data does not exist. Resume with the same data, batch size "
            f"and number of processes, {_START_AGAIN}."
        )


def _list_values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _compare_names(old: Sequence[str] | None, new: Sequence[str] | None) -> str:
    if not old or not new:
        return f"it has {len(old or ())} and the data {len(new or ())}."
    removed, added = ([name for name in one if name not in other][:10] for one, other in ((old, new), (new, old)))
    parts = [f"it has {len(old)} and the data {len(new)}"]
    parts += [f"{text}: {', '.join(map(repr, names))}" for text, names in (("gone", removed), ("new", added)) if names]
    moved = next(((i, a, b) for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), None)
    if moved is not None:
        parts.append(f"label {moved[0]} was {moved[1]!r} and is now {moved[2]!r}")
    return f"{'; '.join(parts)}."


def check_fit(runner: Any, state: Mapping[str, Any]) -> None:
    """Checks that the parts of a checkpoint can be applied to a run.

    Args:
        runner: The Runner, with its training loop, optimizer and schedules built.
        state: The content of the checkpoint, for which `check_structure` passed.

    Raises:
        CheckpointError: A part does not fit. The message names its place.
    """
    model = unwrap_model(runner.model)
    schedules, saved = runner.param_schedulers or [], state["param_schedulers"]
    if len(schedules) != len(saved):
        raise CheckpointError(f"it contains {len(saved)} schedules, this config {len(schedules)}.")
    for i, (schedule, values) in enumerate(zip(schedules, saved, strict=True)):
        own = {name: value for name, value in schedule.state_dict().items() if name != "optimizer"}
        _check_same_form(values, own, f"param_schedulers[{i}]")
    _check_weights(state["state_dict"], model.state_dict(), "state_dict")
    if runner.ema is not None and "ema_state_dict" in state:
        _check_weights(state["ema_state_dict"], model.state_dict(), "ema_state_dict")
    _check_optimizer(state["optimizer"], runner.optim_wrapper)
    for hook in runner.hooks:
        values = state["hooks"].get(type(hook).__name__)
        if values is not None and hasattr(hook, "check_state_dict"):
            hook.check_state_dict(values, state["meta"]["iter"])


def changed_settings(runner: Any, state: Mapping[str, Any]) -> list[str]:
    """Lists settings of the config that resuming replaces by those of the checkpoint, and hooks that start anew.

    Args:
        runner: The Runner, with its optimizer built.
        state: The content of a checkpoint for which `check_fit` passed.
    """
    found = []
    groups = zip(runner.optim_wrapper.optimizer.param_groups, state["optimizer"]["param_groups"], strict=True)
    for own, saved in groups:
        for name in own:
            if name not in saved:
                found.append(f"the checkpoint has no {name} of the optimizer, the config's {own[name]} is used")
            elif name not in _MOVING_OPTIONS and _plain(own[name]) != _plain(saved[name]):
                found.append(f"the optimizer's {name} stays {saved[name]}, the config's {own[name]} is ignored")
    count, known = (
        sum(len(group["params"]) for group in state["optimizer"]["param_groups"]),
        state["optimizer"]["state"],
    )
    if known and len(known) < count:
        found.append(
            f"the optimizer starts anew for {count - len(known)} of {count} parameters, as it has no state of them"
        )
    if "loss_scaler" in runner.optim_wrapper.state_dict() and "loss_scaler" not in state["optimizer"]:
        found.append("loss scaling starts anew, because the checkpoint has no state of it")
    if runner.ema is not None and "ema_state_dict" not in state:
        found.append("averaging starts from the checkpoint's weights, because it has no averaged weights")
    if runner.ema is None and "ema_state_dict" in state:
        found.append("the checkpoint's averaged weights are dropped, because the config has no EMAHook")
    for hook in runner.hooks:
        if hasattr(hook, "state_dict") and type(hook).__name__ not in state["hooks"]:
            found.append(f"{type(hook).__name__} starts anew, because the checkpoint has no state of it")
    return list(dict.fromkeys(found))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _check_weights(saved: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], where: str) -> None:
    missing = [name for name in own if name not in saved]
    unknown = [name for name in saved if name not in own]
    if missing or unknown:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
            for what, names in (("weights of the model are missing", missing), ("are not in the model", unknown))
            if names
        ]
        raise CheckpointError(f"{where} is that of another model: {'; '.join(parts)}.")
    for name, tensor in own.items():
        if saved[name].shape != tensor.shape or saved[name].dtype != tensor.dtype:
            fail(f"{where}.{name}", f"like the model's, {describe(tensor)}", saved[name])


def _check_optimizer(saved: Mapping[str, Any], wrapper: Any) -> None:
    optimizer = wrapper.optimizer
    groups, saved_groups = optimizer.param_groups, saved["param_groups"]
    sizes, saved_sizes = ([len(group["params"]) for group in each] for each in (groups, saved_groups))
    if sizes != saved_sizes:
        raise CheckpointError(
            f"optimizer.param_groups: the checkpoint has {len(saved_sizes)} groups of {saved_sizes} parameters, this "
            f"config {len(sizes)} of {sizes}."
        )
    for i, (group, saved_group) in enumerate(zip(groups, saved_groups, strict=True)):
        options = {name: value for name, value in group.items() if name != "params"}
        _check_common(saved_group, options, f"optimizer.param_groups[{i}]")
    own = wrapper.state_dict()
    if "loss_scaler" in saved and "loss_scaler" in own:
        _check_same_form(saved["loss_scaler"], own["loss_scaler"], "optimizer.loss_scaler")
    if "base_param_settings" in saved:
        _check_common(saved["base_param_settings"], own.get("base_param_settings", {}), "optimizer.base_param_settings")
    parameters = [(parameter, group) for group in groups for parameter in group["params"]]
    known: dict[Any, dict[str, Any] | None] = {}
    for index, values in saved["state"].items():
        parameter, group = parameters[index]
        options = {name: value for name, value in group.items() if name not in _MOVING_OPTIONS}
        key = (parameter.shape, parameter.dtype, repr(sorted(options.items())))
        if key not in known:
            known[key] = _state_after_a_step(optimizer, group, parameter)
        expected = known[key]
        if expected is not None:
            # An optimizer may add to its state in later steps.
            kept = {name: value for name, value in values.items() if name in expected}
            _check_same_form(kept, expected, f"optimizer.state[{index}]")


def _check_common(saved: Mapping[str, Any], own: Mapping[str, Any], where: str) -> None:
    """Checks the form of the entries that both have. Options that another version of torch added are not in both."""
    names = saved.keys() & own.keys()
    _check_same_form({name: saved[name] for name in names}, {name: own[name] for name in names}, where)


def _state_after_a_step(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], parameter: torch.Tensor
) -> dict[str, Any] | None:
    """Returns the state that an optimizer has of a parameter after its first step, None if that cannot be tried."""
    zeros = torch.zeros(parameter.shape, dtype=parameter.dtype, requires_grad=True)
    zeros.grad = torch.zeros_like(zeros)
    trial = object.__new__(type(optimizer))
    vars(trial).update(vars(optimizer))
    trial.state = collections.defaultdict(dict)
    trial.param_groups = [{**group, "params": [zeros], "lr": 0.0}]
    trial._optimizer_step_pre_hooks = collections.OrderedDict()
    trial._optimizer_step_post_hooks = collections.OrderedDict()
    try:
        trial.step()
    except Exception:  # an optimizer that needs a GPU, or other parameters of the group
        return None
    return dict(trial.state[zeros])


def _check_same_form(value: Any, own: Any, where: str) -> None:
    """Checks that a value has the same keys, lengths, shapes and types as the run's own.

    An option that the run leaves open, with None, may be a flag or number in the checkpoint, and a flag may be None.

    Args:
        value: The value in the checkpoint.
        own: The value in the run.
        where: Place of the value.

    Raises:
        CheckpointError: They differ.
    """
    if own is None:
        if value is not None and not isinstance(value, (bool, int, float)):
            fail(where, "None, a flag or a number", value)
    elif value is None and isinstance(own, bool):
        return
    elif isinstance(own, Mapping):
        if not isinstance(value, Mapping) or value.keys() != own.keys():
            names = sorted(map(str, value)) if isinstance(value, Mapping) else value
            raise CheckpointError(f"{where} must have the keys {sorted(map(str, own))}, got {names}.")
        for name in own:
            _check_same_form(value[name], own[name], f"{where}.{name}")
    elif isinstance(own, torch.Tensor):
        if not isinstance(value, torch.Tensor) or value.shape != own.shape or value.dtype != own.dtype:
            fail(where, describe(own), value)
    elif isinstance(own, (list, tuple)):
        if not isinstance(value, (list, tuple)) or len(value) != len(own):
            fail(where, f"a list of {len(own)}", value)
        for i, (item, own_item) in enumerate(zip(value, own, strict=True)):
            _check_same_form(item, own_item, f"{where}[{i}]")
    elif is_number(own):
        if value is None or not is_number(value) or (math.isfinite(own) and not math.isfinite(value)):
            fail(where, "a finite number", value)
    elif type(value) is not type(own):
        fail(where, f"a {type(own).__name__}", value)
