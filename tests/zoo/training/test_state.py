"""Random states: one seed per step, saved and restored generators."""

from __future__ import annotations

import io
import random

import numpy as np
import torch

from attnzoo.zoo.training.checkpoint import to_plain
from attnzoo.zoo.training.state import random_states, restore_random_states, seed_step


def test_steps_have_seeds_of_their_own():
    draws = []
    for numbers in ((0, 1, 0), (0, 1, 0), (0, 2, 0), (1, 1, 0), (0, 1, 1)):
        seed_step(*numbers)
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4


def test_the_global_generators_are_resumed():
    random.gauss(0, 1)
    states = torch_round_trip(random_states())
    draws = [(random.random(), random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist()) for _ in range(2)]  # noqa: NPY002
    restore_random_states(states)
    assert draws[0] == (random.random(), random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist())  # noqa: NPY002


def torch_round_trip(value):
    file = io.BytesIO()
    torch.save(to_plain(value), file)
    file.seek(0)
    return torch.load(file, weights_only=True)
