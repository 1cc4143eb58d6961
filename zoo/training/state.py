"""What a training run is, beside its weights: random states and log history, as plain types and back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from ..seeding import derive_seed

VOLATILE = frozenset({"cfg", "dataset_meta", "eta", "loop_stage", "experiment_name", "mmengine_version"})
"""Runtime information that every run sets anew. The config's text is among it: it has no place in a checkpoint."""


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds torch's generators, of all devices, for one step: drop path and dropout draw from (seed, step, rank)."""
    torch.manual_seed(derive_seed(seed, step, rank, stream="step"))


def random_states() -> dict[str, Any]:
    """The states of this process's global generators, as plain types and tensors."""
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
    """Puts the global generators back to where `random_states` found them."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy = states["numpy"]
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def message_hub_state(hub: MessageHub) -> dict[str, Any]:
    """The log history and runtime information of a message hub, as plain types and tensors."""
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


def restore_message_hub(hub: MessageHub, state: Mapping[str, Any], history_length: int) -> None:
    """Puts the log history back.

    Args:
        hub: what to fill.
        state: what `message_hub_state` gave.
        history_length: how many values a history keeps.
    """
    for name, scalars in state["log_scalars"].items():
        buffer = HistoryBuffer(scalars["history"].numpy(), scalars["counts"].numpy(), max_length=history_length)
        hub.log_scalars[name] = buffer
        hub._resumed_keys[name] = True
    for name, value in state["runtime_info"].items():
        hub.update_info(name, value)
