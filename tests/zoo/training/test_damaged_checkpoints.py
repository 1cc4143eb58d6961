"""A damaged checkpoint is skipped for the one before it, or, if the damage is harmless, resumes with the same bits."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from attnzoo.zoo.training import read_training_checkpoint
from attnzoo.zoo.training.resume import ResumeCandidates
from attnzoo.zoo.training.resume_checks import ResumeMismatch
from attnzoo.zoo.training.state import collect_state, restore_state
from support.training_toy import build, same, toy_config

REPLACEMENTS = ["x", -1, 10**12, 1.5, float("nan"), None, True, [], {}, b"y", torch.zeros(1), [1, 2], {"x": 1}]


def random_place(content: Any, generator: random.Random) -> tuple[Any, Any]:
    """Returns a container in nested dicts and lists, and one of its keys."""
    while True:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = generator.choice(list(keys))
        inner = content[key]
        if not isinstance(inner, dict | list | tuple) or not inner or generator.random() < 0.25:
            return content, key
        if isinstance(inner, tuple):
            inner = content[key] = list(inner)
        content = inner


def mutate(content: dict[str, Any], generator: random.Random) -> str:
    """Changes one value somewhere in a checkpoint, and describes how."""
    container, key = random_place(content, generator)
    value: Any = container[key]
    kinds = ["drop", "replace", "replace"]
    if isinstance(value, list) and value:
        kinds.append("shorten")
    if isinstance(value, torch.Tensor) and value.ndim:
        kinds += ["shorten", "cast"]
    kind = generator.choice(kinds)
    if kind == "drop":
        del container[key]
    elif kind == "shorten":
        container[key] = value[:-1].clone() if isinstance(value, torch.Tensor) else value[:-1]
    elif kind == "cast":
        container[key] = torch.as_tensor(value).to(torch.float16)
    else:
        container[key] = generator.choice(REPLACEMENTS)
    return f"{kind} {key!r}: {str(value)[:60]} -> {str(container[key])[:60] if kind != 'drop' else 'nothing'}"


def damage(content: bytes, generator: random.Random) -> bytes:
    """Damages the bytes of a file."""
    damaged = bytearray(content)
    start = generator.randrange(len(damaged))
    kind = generator.choice(["truncate", "flip", "zero", "insert", "remove"])
    if kind == "truncate":
        del damaged[start:]
    elif kind == "flip":
        damaged[start] ^= 1 << generator.randrange(8)
    elif kind == "zero":
        damaged[start : start + 512] = bytes(len(damaged[start : start + 512]))
    elif kind == "insert":
        damaged[start:start] = generator.randbytes(generator.randrange(1, 64))
    else:
        del damaged[start : start + generator.randrange(1, 64)]
    return bytes(damaged)


class Trial:
    """A run that resumes from a folder with an intact older checkpoint and a damaged newer one."""

    def __init__(self, folder: Path) -> None:
        build(toy_config(folder, train_cfg__max_epochs=2, default_hooks__checkpoint={"type": "CheckpointHook"})).train()
        self.folder, self.newest = folder, folder / "epoch_2.pth"
        self.states = {path.name: read_training_checkpoint(path) for path in sorted(folder.glob("epoch_*.pth"))}
        self.times = {name: state["meta"]["time"] for name, state in self.states.items()}
        self.runner = build(toy_config(folder / "again", train_cfg__max_epochs=2, log_level="ERROR"))
        self.runner._train_loop = self.runner.build_train_loop(self.runner._train_loop)
        self.runner.optim_wrapper = self.runner.build_optim_wrapper(self.runner.optim_wrapper)
        self.runner.param_schedulers = self.runner.build_param_scheduler(self.runner.param_schedulers)
        self.batch = next(iter(self.runner.train_loop.dataloader))

    def resume(self) -> tuple[str, list[str]]:
        """Resumes and runs a step.

        Returns:
            The name of the checkpoint, and where the run differs from the one that wrote it.
        """
        candidates = ResumeCandidates(True, self.folder, self.runner.logger)
        found = candidates.choose(self.runner, candidates.next())
        assert found is not None
        path, state = found
        if path != self.newest:
            assert self.newest in candidates.skipped
        self.runner.message_hub.log_scalars.clear()
        self.runner.message_hub.runtime_info.clear()
        restore_state(self.runner, state)
        restored = collect_state(self.runner)
        restored["format"], restored["meta"]["time"] = self.states[path.name]["format"], self.times[path.name]
        differing = same(restored, self.states[path.name])
        self.runner.model.train_step(self.batch, optim_wrapper=self.runner.optim_wrapper)
        for schedule in self.runner.param_schedulers:
            schedule.step()
        return path.name, differing


@pytest.fixture
def trial(tmp_path):
    return Trial(tmp_path)


@pytest.mark.slow
def test_damaged_bytes(trial):
    generator = random.Random(5)
    intact = trial.newest.read_bytes()
    for _ in range(300):
        trial.newest.write_bytes(damage(intact, generator))
        assert trial.resume()[1] == []


UNCHECKED = (
    # Information about the run that every run sets itself, and the log, which is not needed to continue.
    "message_hub.",
    # The following are reported when training resumes.
    "optimizer.param_groups",
    "optimizer.base_param_settings",
    "optimizer.state.",
    "hooks.",
    # The following have another valid value.
    "meta.metrics",
    "meta.stop_training",
    "meta.validation_pending",
    "random_states[0].numpy.cached",
    "random_states[0].python[2]",
)


@pytest.mark.slow
def test_damaged_content(trial):
    """Files that are intact, but whose content was not written by training."""
    generator = random.Random(7)
    names, changed = set(), []
    for _ in range(1000):
        content = copy.deepcopy(trial.states[trial.newest.name])
        what = mutate(content, generator)
        torch.save(content, trial.newest)
        try:
            name, differing = trial.resume()
        except ResumeMismatch:  # the number of samples could be that of other data
            assert re.match(r"replace '(optimizer|samples|classes|batch_size)'", what)
            continue
        names.add(name)
        places = [place.removeprefix(".") for place in differing]
        changed += [(what, place) for place in places if not place.startswith(UNCHECKED)]
    assert not changed
    assert names == {"epoch_1.pth", "epoch_2.pth"}
