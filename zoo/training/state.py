"""State of a run: weights, optimizer, random states, position in the data, log history; collected and restored."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import MessageHub

from ..seeding import derive_seed
from .checkpoint_structure import log_history, numpy_state
from .distributed import gather_objects
from .model_setup import unwrap_model
from .resume_checks import run_identity

VOLATILE = frozenset({"cfg", "eta", "loop_stage"})
"""Runtime information that every run sets itself. The text of a config does not belong in a checkpoint."""


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds the generators of torch on all devices for one step, so that dropout depends on (seed, step, rank) only."""
    torch.manual_seed(derive_seed(seed, step, rank, stream="step"))


def random_states() -> dict[str, Any]:
    """Returns the states of the global generators of this process, as plain types and tensors."""
    _, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": {
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Restores the states of the global generators."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(numpy_state(states["numpy"]))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def message_hub_state(hub: MessageHub) -> dict[str, Any]:
    """Returns the log history and runtime information of a message hub, as plain types and tensors."""
    scalars = {}
    for name, buffer in hub.log_scalars.items():
        history, counts = buffer.data
        scalars[name] = {"history": torch.from_numpy(history.copy()), "counts": torch.from_numpy(counts.copy())}
    info = {
        name: value
        for name, value in hub.runtime_info.items()
        if name not in VOLATILE and (value is None or isinstance(value, (str, int, float, bool)))
    }
    return {"log_scalars": scalars, "runtime_info": info}


def restore_message_hub(hub: MessageHub, state: Mapping[str, Any]) -> None:
    """Restores the log history and runtime information that `message_hub_state` returned."""
    buffers, info = log_history(state)
    for name, buffer in buffers.items():
        hub.log_scalars[name] = buffer
        hub._resumed_keys[name] = True
    for name, value in info.items():
        hub.update_info(name, value)


def collect_state(runner: Any) -> dict[str, Any]:
    """Collects the complete state of a run, for `write_checkpoint`; all processes must call this.

    Args:
        runner: The Runner, at a boundary between steps.

    Returns:
        The state in process 0, {} in others.
    """
    states = gather_objects(random_states())
    if runner.rank != 0:
        return {}
    state: dict[str, Any] = {
        "meta": {
            **runner.train_loop.state_dict(),
            **run_identity(runner),
            "seed": int(runner.seed),
            "metrics": {name: value for name, value in runner.last_metrics.items() if isinstance(value, (int, float))},
            "preprocessing": runner.preprocessing.to_dict(),
            "torch": str(torch.__version__),
            "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        },
        "state_dict": unwrap_model(runner.model).state_dict(),
        "optimizer": runner.optim_wrapper.state_dict(),
        "param_schedulers": [
            {name: value for name, value in scheduler.state_dict().items() if name != "optimizer"}
            for scheduler in runner.param_schedulers or ()
        ],
        "random_states": states,
        "hooks": {type(hook).__name__: hook.state_dict() for hook in runner.hooks if hasattr(hook, "state_dict")},
        "message_hub": message_hub_state(runner.message_hub),
    }
    if runner.ema is not None and runner.ema.average is not None:
        state["ema_state_dict"] = runner.ema.average.state_dict()
        state["meta"]["ema_updates"] = runner.ema.average.updates
    return state


def restore_state(runner: Any, state: Mapping[str, Any]) -> None:
    """Restores the state of a run; all processes must call this.

    Args:
        runner: The Runner, ready to train.
        state: The state that `collect_state` returned, which passed `resume_checks.check_fit`.
    """
    meta = state["meta"]
    runner.train_loop.load_state_dict(meta)
    unwrap_model(runner.model).load_state_dict(state["state_dict"], strict=True)
    runner.optim_wrapper.load_state_dict(_with_missing_options(runner.optim_wrapper, state["optimizer"]))
    if runner.ema is not None:
        average = runner.ema.start(runner.model)
        if "ema_state_dict" in state:
            average.load_state_dict(state["ema_state_dict"], meta["ema_updates"])
    for scheduler, scheduler_state in zip(runner.param_schedulers or (), state["param_schedulers"], strict=True):
        scheduler.load_state_dict(scheduler_state)
    for hook in runner.hooks:
        if hasattr(hook, "state_dict") and type(hook).__name__ in state["hooks"]:
            hook.load_state_dict(state["hooks"][type(hook).__name__])
    restore_message_hub(runner.message_hub, state["message_hub"])
    runner.last_metrics = dict(meta["metrics"])
    # Last, because building and loading may use the generators.
    restore_random_states(state["random_states"][runner.rank])


def _with_missing_options(wrapper: Any, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the run's own options to the state of an optimizer where they are missing, as from another torch version."""
    own = wrapper.state_dict()
    groups = zip(own["param_groups"], saved["param_groups"], strict=True)
    filled = {**saved, "param_groups": [{**group, **saved_group} for group, saved_group in groups]}
    if "base_param_settings" in own:
        filled["base_param_settings"] = {**own["base_param_settings"], **saved.get("base_param_settings", {})}
    return filled
