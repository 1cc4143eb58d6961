"""Data loaders: seeds of workers, data sets and samplers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook

from attnzoo.zoo.registry import DATASETS, HOOKS
from support.training_toy import ToyDataset, build, toy_config


@DATASETS.register_module()
class CarelessDataset(ToyDataset):
    """Also uses the generators of its worker."""

    def __getitem__(self, key):
        draws = (random.random(), float(np.random.rand()), torch.rand(1).item())  # noqa: NPY002
        return {**super().__getitem__(key), "draws": torch.tensor(draws, dtype=torch.float64)}


@HOOKS.register_module()
class DrawsHook(Hook):
    """Records the random numbers of the data set."""

    def __init__(self):
        self.draws = []

    def before_train_iter(self, runner, batch_idx, data_batch: Any = None):
        self.draws.append(data_batch["draws"].tolist())


def test_workers_have_new_random_numbers_per_epoch_and_equal_ones_per_run(tmp_path):
    def draws():
        loader = {"train_dataloader__num_workers": 2, "train_dataloader__dataset": {"type": "CarelessDataset"}}
        config = toy_config(tmp_path, train_cfg__max_epochs=2, **loader)
        config["custom_hooks"].append({"type": "DrawsHook"})
        runner = build(config)
        runner.train()
        (hook,) = [hook for hook in runner.hooks if isinstance(hook, DrawsHook)]
        return hook.draws

    found = draws()
    every = [value for batch in found for sample in batch for value in sample]
    assert len(set(every)) == len(every)
    assert found == draws()


def test_the_seed_is_passed_to_data_sets_and_samplers_without_one(tmp_path):
    runner = build(toy_config(tmp_path, randomness__seed=9))
    assert (runner.train_dataloader.dataset.seed, runner.train_dataloader.sampler.seed) == (9, 9)
    runner = build(toy_config(tmp_path, randomness__seed=9, train_dataloader__dataset__seed=4))
    assert (runner.train_dataloader.dataset.seed, runner.train_dataloader.sampler.seed) == (4, 9)
